#!/bin/bash
# run.sh COMMAND...: runs COMMAND as root under the kernel of a Debian release, which is older than many or newer:
# in qemu, without KVM. Its output and its exit status are the command's.
#
# In there: the machine's root directory, read-only, by 9p; a fresh /run with TMPDIR in it; one
# processor; no network. Emulated, so slow: what it tells about time means nothing.
#
# VM_SUITE       whose kernel: bullseye (5.10, the oldest that is supported), bookworm (6.1) or trixie (6.12); bullseye
# VM_MEMORY      MiB, 2048
# VM_SECONDS     time limit, 900
# VM_CACHE       where unpacked kernels are kept; not below /run
# DEBIAN_MIRROR  where they come from; else the mirror of this machine's apt
set -euo pipefail

. "$(dirname "$0")/../debian.sh"
die() { printf 'tests/vm/run.sh: %s\n' "$*" >&2; exit 125; }
[ $# -gt 0 ] || die "which command?"
for tool in qemu-system-x86_64 busybox cpio modprobe depmod dpkg-deb xz; do
  command -v $tool >/dev/null || die "$tool is missing (packages: qemu-system-x86 busybox-static cpio kmod dpkg xz-utils)"
done

suite=${VM_SUITE:-bullseye}
cache=$(realpath -m "${VM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/egressway-vm}")/$suite

# Downloads and unpacks the kernel, once.
fetch_kernel() {
  local package new=$cache.new
  printf '==> downloading the kernel of Debian %s for the virtual machine\n' "$suite" >&2
  rm -rf "$new" && mkdir -p "$new/kernel"
  debian_lists "$new" "$suite" deb || return
  # What depends on the kernel that is current is called so, and has nothing itself.
  package=$(debian apt-cache depends linux-image-amd64 | awk '/Depends: linux-image/ {print $2; exit}')
  [ -n "$package" ] || die "Debian $suite has no linux-image-amd64"
  (cd "$new" && debian apt-get download "$package" && dpkg-deb -x ./*.deb kernel)
  # Newer ones are below /usr.
  [ -d "$new/kernel/lib/modules" ] || ln -s usr/lib "$new/kernel/lib"
  depmod -b "$new/kernel" "$(ls "$new/kernel/lib/modules")"
  mkdir -p "$cache"
  mv "$new/kernel" "$cache/kernel"
  rm -rf "$new"
}
[ -d "$cache/kernel" ] || fetch_kernel
release=$(ls "$cache/kernel/lib/modules")

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The initial file system: busybox, the modules without which there is no root, and what to do.
root=$scratch/root
mkdir -p "$root"/{bin,modules,proc,sys,dev,host}
cp "$(command -v busybox)" "$root/bin/busybox"
for module in virtio_pci 9pnet_virtio 9p; do
  modprobe -d "$cache/kernel" -S "$release" --show-depends $module | awk '$1 == "insmod" {print $2}'
done | awk '!seen[$0]++' | while read -r file; do
  case $file in # busybox knows no compressed modules
    *.xz) xz -dc "$file" >"$root/modules/$(basename "$file" .xz)" ;;
    *) cp "$file" "$root/modules/" ;;
  esac
  basename "$file" .xz >>"$root/modules/order"
done
{
  printf 'cd %q\n' "$PWD"
  printf '%q ' "$@"
  echo
} >"$root/command"
cat >"$root/start" <<E2
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/run/tmp TMPDIR=/run/tmp
echo /run/modprobe >/proc/sys/kernel/modprobe
ip link set lo up
# The kernel loads these by itself, but each costs a second in here: a plugin's ten would be over.
/run/modprobe -a veth bridge br_netfilter nf_tables nft_ct nft_chain_nat nft_nat nft_masq nft_fib_inet \
  nft_reject_inet nft_log nft_limit nft_compat nfnetlink_log nf_conntrack_netlink xt_comment \
  xt_MASQUERADE xt_nat
{ sh /run/command </dev/null 2>&1; echo \$? >/run/status; } | cat # no terminal
cat /run/status >/dev/ttyS1
/run/busybox poweroff -f
E2
printf '#!/bin/sh\nexec /sbin/modprobe -d %q "$@"\n' "$cache/kernel" >"$root/modprobe"
cat >"$root/init" <<'E2'
#!/bin/busybox sh
alias b=/bin/busybox
b mount -t proc proc /proc
b mount -t sysfs sys /sys
b mount -t devtmpfs dev /dev
while read -r file; do b insmod /modules/$file; done </modules/order
b mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000 root /host
b mount -t tmpfs -o mode=755 tmpfs /host/run
b mkdir -p /host/run/tmp /host/run/netns
b cp /command /start /modprobe /bin/busybox /host/run/
b chmod +x /host/run/modprobe
b mount -t proc proc /host/proc
b mount -t sysfs sys /host/sys
b mount -t devtmpfs dev /host/dev
exec /bin/busybox switch_root /host /bin/sh /run/start
E2
chmod +x "$root/init"
(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$scratch/initrd"

# The second serial line carries nothing but the exit status.
status=0
timeout "${VM_SECONDS:-900}" qemu-system-x86_64 \
  -machine q35,accel=tcg -cpu max -smp 1 -m "${VM_MEMORY:-2048}" \
  -display none -monitor none -no-reboot -nic none -serial stdio -serial "file:$scratch/status" \
  -kernel "$(echo "$cache"/kernel/boot/vmlinuz-*)" -initrd "$scratch/initrd" \
  -append "console=ttyS0 quiet loglevel=0 panic=-1 tsc=reliable" \
  -virtfs local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap \
  </dev/null | sed -u 's/[\r\d000]//g' || status=$?
answer=$(tr -dc 0-9 <"$scratch/status" 2>/dev/null || true)
[ -n "$answer" ] || die "the command did not end (qemu: $status); the limit is ${VM_SECONDS:-900} s"
exit "$answer"
