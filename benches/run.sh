#!/bin/bash
# What egressway costs, side by side with what users have today, in network namespaces of its own.
# Writes benches/RESULTS.md and benches/results.svg. About 8 minutes on a quiet machine with two cores,
# behind the build; nobody else should use the machine.
#
#   benches/run.sh                        all of it
#   benches/run.sh PART...                only these: adds packets memory upkeep verdicts bystanders churn
#   benches/run.sh --quick                whether it works, in less than a minute; the numbers mean nothing
#   benches/run.sh --policy FILE          rules of your own, one a line, in place of the generated lists
#   benches/run.sh --out DIR              writes there instead
#   benches/run.sh --json FILE            writes every single sample there, too
#   benches/run.sh --programs DIR         measures DIR/egressway and DIR/compile, and builds neither
set -euo pipefail
here=$(pwd)
cd "$(dirname "$0")/.."
. install/prepare.sh

need_root benches/run.sh
need iproute2=ip iptables=iptables ipset=ipset nftables=nft iperf3=iperf3 strace=strace procps=sysctl \
  util-linux=unshare python3=/usr/bin/python3 gcc=cc libc6-dev=/usr/include/stdlib.h \
  ca-certificates=/etc/ssl/certs/ca-certificates.crt
need_cni_plugins

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
options=() programs=
while [ $# -gt 0 ]; do
  case $1 in
    --programs) programs=$(cd "$here" && realpath "$2"); shift ;;
    --policy|--out|--json) options+=("$1" "$(cd "$here" && realpath -m "$2")"); shift ;;
    *) options+=("$1") ;;
  esac
  shift
done

if [ -z "$programs" ]; then
  need_rust
  say "building egressway and its compiler's bench, as released"
  cargo build --locked --quiet --release
  compile=$(cargo bench --locked --quiet --bench compile --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*\/compile-[^"]*\)".*/\1/p')
  programs=$scratch
  ln -s "$(realpath "${CARGO_TARGET_DIR:-target}")/$(rustc -vV | sed -n 's/^host: //p')/release/egressway" "$programs/egressway"
  ln -s "$compile" "$programs/compile"
fi
cc -O2 -static -o "$scratch/probe" benches/probe.c

# Not `exec`: the trap above is still to come.
PYTHONDONTWRITEBYTECODE=1 unshare --mount --net --pid --fork --kill-child --mount-proc \
  /usr/bin/python3 benches/main.py --binary "$(realpath "$programs/egressway")" --compile "$(realpath "$programs/compile")" \
  --probe "$scratch/probe" --plugins "$(cni_plugins)" "${options[@]}"
