#!/bin/bash
# build.sh: a kube-apiserver and an etcd for the tests. Prints the directory that has them.
#
# There already: $KUBEBUILDER_ASSETS, /usr/local/kubebuilder/bin, or what an earlier run built. Else
# kube-apiserver is built from Debian's source package `kubernetes`, with Debian's Go and next to
# Debian's etcd: five minutes and 3 GB, of which 130 MB stay. All is unpacked beside, not installed, so it
# works on Ubuntu too.
set -euo pipefail

die() { printf 'tests/apiserver/build.sh: %s\n' "$*" >&2; exit 1; }
say() { printf '==> %s\n' "$*" >&2; }

cache=$(realpath -m "${APISERVER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/egressway-apiserver}")
for have in "${KUBEBUILDER_ASSETS:-}" /usr/local/kubebuilder/bin "$cache"; do
  [ -x "$have/kube-apiserver" ] && [ -x "$have/etcd" ] && { echo "$have"; exit; }
done
for tool in make rsync dpkg-source gcc; do
  command -v $tool >/dev/null || die "$tool is missing (packages: make rsync dpkg-dev gcc)"
done

work=$(mktemp -d "${TMPDIR:-/var/tmp}/egressway-apiserver.XXXXXX")
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT

# A package list of its own: the machine's need not know Debian 12, nor sources.
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -e $keyring ] || die "$keyring is missing (package: debian-archive-keyring)"
mkdir -p "$work"/apt/{parts,lists/partial,cache/archives/partial} "$work"/packages "$work"/root
cat >"$work/apt/parts/debian.sources" <<E2
Types: deb deb-src
URIs: ${DEBIAN_MIRROR:-http://deb.debian.org/debian}
Suites: bookworm
Components: main
Signed-By: $keyring
E2
apt() {
  apt-get -qq -o APT::Sandbox::User=root -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/apt/parts" \
    -o Dir::State::lists="$work/apt/lists" -o Dir::Cache="$work/apt/cache" "$@"
}
say "downloading Debian's kubernetes (source), golang-1.19 and etcd-server for the tests' API server"
cd "$work/packages"
apt update
apt --download-only source kubernetes
apt download golang-1.19-go golang-1.19-src etcd-server
for package in *.deb; do dpkg-deb -x "$package" "$work/root"; done

# The makefile generates code first, with tools that it builds for that, and wants to be in a GOPATH.
source=$work/go/src/k8s.io/kubernetes
mkdir -p "$(dirname "$source")"
dpkg-source --no-check -x kubernetes_*.dsc "$source" >/dev/null
say "building kube-apiserver (takes minutes, once)"
env -i HOME="$work" PATH="$work/root/usr/lib/go-1.19/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
  GOROOT="$work/root/usr/lib/go-1.19" GOPATH="$work/go" GOCACHE="$work/gocache" GO111MODULE=off \
  KUBE_GIT_VERSION=v1.20.2 KUBE_GIT_MAJOR=1 KUBE_GIT_MINOR=20 KUBE_GIT_COMMIT=none KUBE_GIT_TREE_STATE=archive \
  make -C "$source" WHAT=cmd/kube-apiserver >"$work/log" 2>&1 || { tail -n40 "$work/log" >&2; die "the build failed"; }

mkdir -p "$cache"
install -s "$source/_output/bin/kube-apiserver" "$cache/kube-apiserver.new"
install "$work/root/usr/bin/etcd" "$cache/etcd"
mv "$cache/kube-apiserver.new" "$cache/kube-apiserver"
echo "$cache"
