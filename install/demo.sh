#!/bin/bash
# The main job, on this machine: a node, its pods and an outside world in network namespaces, the
# real bridge plugin and egressway chained as a container runtime chains them. Shows what each pod
# may reach, by which rule, and from which address it is seen. Fails if anything is not as expected.
#
# Installs what is missing (and says what), touches nothing else of the machine: everything happens
# in namespaces that end with this script.
set -euo pipefail
cd "$(dirname "$0")/.."
. install/prepare.sh

need_root install/demo.sh
need iproute2=ip iptables=iptables nftables=nft python3=python3 util-linux=unshare \
  gcc=cc libc6-dev=/usr/include/stdlib.h ca-certificates=/etc/ssl/certs/ca-certificates.crt
need_cni_plugins
need_rust
build

export PYTHONDONTWRITEBYTECODE=1
exec unshare --mount --net --pid --fork --kill-child --mount-proc \
  python3 install/demo/main.py "$BINARY" "$(cni_plugins)"
