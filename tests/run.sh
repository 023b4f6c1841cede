#!/bin/bash
# Every test. Installs what is missing, and says what. Nothing is skipped: what can't run, fails.
# The last line is `N passed, N failed`.
#
#   tests/run.sh              all of it
#   tests/run.sh STEP...      only these: format clippy deny unit demo vagrant benches kernel; and
#                             advisories, which is for releases: it asks the network for what is known
#
# The first run on a machine builds a kube-apiserver (tests/apiserver/build.sh) beside the first steps.
set -uo pipefail
cd "$(dirname "$0")/.."
. install/prepare.sh
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}

need_root tests/run.sh
need iproute2=ip iptables=iptables nftables=nft conntrack=conntrack strace=strace \
  python3=/usr/bin/python3 python3-scapy=/usr/lib/python3/dist-packages/scapy procps=sysctl time=/usr/bin/time \
  util-linux=unshare gcc=cc libc6-dev=/usr/include/stdlib.h kmod=modprobe \
  ca-certificates=/etc/ssl/certs/ca-certificates.crt \
  chromium=chromium qemu-system-x86=qemu-system-x86_64 busybox-static=busybox cpio=cpio \
  containerd=containerd runc=runc tar=tar openssl=openssl make=make rsync=rsync dpkg-dev=dpkg-source \
  debian-archive-keyring=/usr/share/keyrings/debian-archive-keyring.gpg || exit 1
need_cni_plugins || exit 1
need_rust
if [ ! -d /proc/sys/net/bridge ]; then
  say "loading br_netfilter, with which half of the tests on bridges run"
  modprobe br_netfilter || die "no br_netfilter in this kernel"
fi

passed=0 failed=0
output=$(mktemp)
api_server=
trap 'rm -f "$output" "$output.api-server"; [ -z "$api_server" ] || kill -- -$api_server 2>/dev/null' EXIT

# count NAME STATUS PASSED FAILED: adds to the sums. A command that fails has at least one failure.
count() {
  local bad=$4
  [ "$2" != 0 ] && [ "$bad" = 0 ] && bad=1
  passed=$((passed + $3)) failed=$((failed + bad))
  say "$1: $3 passed, $bad failed"
}

# one NAME COMMAND...: a check that passes or fails as a whole.
one() {
  local name=$1 status
  shift
  say "$name"
  "$@"
  status=$?
  count "$name" $status $((status == 0)) 0
}

# tests NAME COMMAND...: what prints the results of Rust's test runner. An ignored test is a failure.
tests() {
  local name=$1 status sums
  shift
  say "$name"
  "$@" 2>&1 | tee "$output"
  status=$?
  sums=$(awk '/^test result:/ { p += $4; f += $6 + $8 } END { print p + 0, f + 0 }' "$output")
  count "$name" $status ${sums% *} ${sums#* }
}

# demo NAME COMMAND...: the demo, which says `N of M as expected`.
demo() {
  local name=$1 status sums
  shift
  say "$name"
  "$@" 2>&1 | tee "$output"
  status=$?
  sums=$(sed -n 's/^\([0-9]*\) of \([0-9]*\) as expected.*/\1 \2/p' "$output" | tail -n1)
  sums=${sums:-0 0}
  count "$name" $status ${sums% *} $((${sums#* } - ${sums% *}))
}

step_format() { one "format" cargo fmt --check; }

step_clippy() { one "clippy" cargo clippy --locked --workspace --all-targets -- -D warnings; }

# Licences, banned crates and sources. Advisories need the advisory database from the network, and
# change without a change of ours: `cargo deny check advisories`, by hand and before a release.
need_cargo_deny() {
  if ! command -v cargo-deny >/dev/null; then
    say "installing with cargo: cargo-deny (takes minutes, once)"
    cargo install --quiet --locked --debug cargo-deny
    PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
  fi
}

step_deny() {
  need_cargo_deny
  one "cargo deny" cargo deny check bans licenses sources
  one "bill of materials" bill_of_materials
}

step_advisories() {
  need_cargo_deny
  one "cargo deny: advisories" cargo deny check advisories
}

# It can be made, for each target, and twice the same.
bill_of_materials() {
  local target
  for target in x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu; do
    install/sbom.py $target >"$output" && [ -s "$output" ] && install/sbom.py $target | cmp - "$output" || return 1
  done
}

# The API server that the tests ask is built while other steps are at work.
start_api_server() {
  setsid tests/apiserver/build.sh >"$output.api-server" 2>&1 &
  api_server=$!
}

step_unit() {
  say "waiting for the tests' API server"
  wait $api_server || { cat "$output.api-server"; count "the tests' API server" 1 0 1; }
  tests "unit, integration and namespace tests" cargo test --locked --workspace --no-fail-fast
}

step_demo() { demo "demo" install/demo.sh; }

# Whether the benches work. What they find means nothing here, and nothing is asserted about it.
step_benches() {
  local programs
  build
  programs=$(mktemp -d)
  ln -s "$BINARY" "$programs/egressway"
  ln -s "$(cargo bench --locked --quiet --profile dev --bench compile --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*\/compile-[^"]*\)".*/\1/p')" "$programs/compile"
  one "benches" benches/run.sh --quick --programs "$programs" --out "$programs"
  rm -rf "$programs"
}

step_vagrant() {
  need vagrant=vagrant || { count "vagrant validate" 1 0 1; return; }
  # Neither the user's boxes nor a directory of ours are needed to read the file.
  VAGRANT_HOME=$output.vagrant VAGRANT_DOTFILE_PATH=$output.vagrant \
    one "vagrant validate" vagrant validate --ignore-provider
  rm -rf "$output.vagrant"
}

# The core of the namespace tests and the demo under an older kernel.
step_kernel() {
  local binary names
  names=$(sed 's/#.*//' tests/vm/core.txt)
  binary=$(cargo test --locked --quiet --test netns --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*\/netns-[^"]*\)".*/\1/p')
  [ -x "$binary" ] || { count "older kernel" 1 0 1; return; }
  # shellcheck disable=SC2086 # one word a test
  VM_SECONDS=1800 tests "older kernel: namespace tests" tests/vm/run.sh env EGRESSWAY_PATIENCE=10 "$binary" --exact --test-threads=1 $names
  [ "$(wc -w <<<"$names")" = "$(grep -c '^test .* \.\.\. ' "$output")" ] ||
    count "older kernel: a test of tests/vm/core.txt does not exist" 1 0 1
  build
  demo "older kernel: demo" tests/vm/run.sh env DEMO_PATIENCE=10 unshare --mount --net --pid --fork --kill-child \
    --mount-proc /usr/bin/python3 install/demo/main.py "$BINARY" "$(cni_plugins)"
}

[ $# -gt 0 ] || set -- format clippy deny unit demo vagrant benches kernel
[[ " $* " != *" unit "* ]] || start_api_server
for step in "$@"; do
  declare -F "step_$step" >/dev/null || die "no step $step: format clippy deny unit demo vagrant benches kernel"
  "step_$step"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
