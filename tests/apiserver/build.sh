#!/bin/bash
# build.sh: a kube-apiserver and an etcd for the tests. Prints the directory that has them.
#
# There already: $KUBEBUILDER_ASSETS, /usr/local/kubebuilder/bin, or what an earlier run of this very script
# built, whoever's checkout that was. Else kube-apiserver is built from Debian's source package `kubernetes`,
# with Debian's Go and next to Debian's etcd: five minutes and 3 GB, of which 130 MB stay. All is unpacked beside,
# not installed, so it works on Ubuntu too.
#
# APISERVER_CACHE   where builds are kept, a directory for each version of this script
# DEBIAN_MIRROR     where packages come from; else the mirror of this machine's apt
set -euo pipefail

# The build is known by the hash of this file: what it is made of and how stands here.
suite=bookworm version=1.20.5+really1.20.2 go=golang-1.19

die() { printf 'tests/apiserver/build.sh: %s\n' "$*" >&2; exit 1; }
say() { printf '==> %s\n' "$*" >&2; }

. "$(dirname "$0")/../debian.sh"
hash=$(sha256sum "$0")
builds=$(realpath -m "${APISERVER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/egressway-apiserver}")
built=$builds/${hash:0:16}

there() {
  local have
  for have in "${KUBEBUILDER_ASSETS:-}" /usr/local/kubebuilder/bin "$built"; do
    [ -x "$have/kube-apiserver" ] && [ -x "$have/etcd" ] || continue
    [ "$have" != "$built" ] || touch "$built"
    echo "$have"
    return
  done
  return 1
}
there && exit
for tool in make rsync dpkg-source gcc flock; do
  command -v $tool >/dev/null || die "$tool is missing (packages: make rsync dpkg-dev gcc util-linux)"
done
# Tests that need it at the same time wait for one build.
mkdir -p "$builds"
exec 9>"$builds/lock"
flock 9
there && exit

work=$(mktemp -d "${TMPDIR:-/var/tmp}/egressway-apiserver.XXXXXX")
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT

say "downloading Debian's kubernetes (source), $go and etcd-server for the tests' API server"
mkdir -p "$work"/{packages,root}
debian_lists "$work" $suite "deb deb-src"
cd "$work/packages"
debian apt-get --download-only source kubernetes
ls kubernetes_"$version"-*.dsc >/dev/null || die "Debian $suite has another kubernetes than $version: say which in this script"
debian apt-get download $go-go $go-src etcd-server
for package in *.deb; do dpkg-deb -x "$package" "$work/root"; done

# The makefile generates code first, with tools that it builds for that, and wants to be in a GOPATH.
source=$work/go/src/k8s.io/kubernetes
mkdir -p "$(dirname "$source")"
dpkg-source --no-check -x kubernetes_*.dsc "$source" >/dev/null
say "building kube-apiserver (takes minutes, once)"
root=$work/root/usr/lib/${go/lang/}
env -i HOME="$work" PATH="$root/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
  GOROOT="$root" GOPATH="$work/go" GOCACHE="$work/gocache" GO111MODULE=off \
  KUBE_GIT_VERSION=v${version#*really} KUBE_GIT_MAJOR=1 KUBE_GIT_MINOR=20 KUBE_GIT_COMMIT=none KUBE_GIT_TREE_STATE=archive \
  make -C "$source" WHAT=cmd/kube-apiserver 9>&- >"$work/log" 2>&1 || { tail -n40 "$work/log" >&2; die "the build failed"; }

mkdir -p "$built"
install -s "$source/_output/bin/kube-apiserver" "$built/kube-apiserver.new"
install "$work/root/usr/bin/etcd" "$built/etcd"
mv "$built/kube-apiserver.new" "$built/kube-apiserver"
# Builds of other versions that nobody has used for long.
find "$builds" -mindepth 1 -maxdepth 1 -type d -mtime +60 -exec rm -r {} +
echo "$built"
