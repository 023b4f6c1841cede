#!/bin/bash
# Makes the image from the programs that are built, for each architecture that there is one of:
#
#   cargo build --release && install/image.sh egressway:0.1.0
#   buildah manifest push --all egressway:0.1.0 docker://registry.example.com/egressway:0.1.0
#
# Needs buildah. The same programs make the same image, byte for byte: nothing in it says when it was made, unless
# SOURCE_DATE_EPOCH does.
#
#   install/image.sh NAME [ARCHITECTURE=PROGRAM...]      amd64=FILE, arm64=FILE instead of what is in target/
set -euo pipefail
cd "$(dirname "$0")/.."
name=${1:?the name of the image, as egressway:0.1.0}
shift
declare -A programs=()
if [ $# = 0 ]; then
  for pair in amd64=x86_64 arm64=aarch64; do
    program=target/${pair#*=}-unknown-linux-gnu/release/egressway
    [ ! -x "$program" ] || programs[${pair%%=*}]=$program
  done
fi
for pair in "$@"; do programs[${pair%%=*}]=${pair#*=}; done
[ ${#programs[@]} -gt 0 ] || { echo "error: no program in target/: run \`cargo build --release\`" >&2; exit 1; }

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n1)
revision=$(git rev-parse HEAD 2>/dev/null || true)
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
buildah manifest rm "$name" >/dev/null 2>&1 || true
buildah manifest create "$name" >/dev/null
for architecture in $(printf '%s\n' "${!programs[@]}" | sort); do
  install -D -m 755 "${programs[$architecture]}" "$context/$architecture/egressway"
  buildah build --quiet --isolation chroot --no-cache --timestamp "${SOURCE_DATE_EPOCH:-0}" \
    --platform "linux/$architecture" --build-arg "TARGETARCH=$architecture" --build-arg "VERSION=$version" \
    --build-arg "REVISION=$revision" --manifest "$name" -f install/Containerfile "$context" >/dev/null
  echo "$name: linux/$architecture, from ${programs[$architecture]}"
done
