# confined.sh ROOT CONFIGURATION UID PROGRAM ARGUMENT …: run a program in an image's root as Kubernetes would, confined as far
# as deploy/ asks for: the root is read-only, /dev/shm has 64 MB, the user is a number without a name, and may become no other.
# To be run with `unshare --mount --propagation private`: what is mounted here is gone with the program.
set -eu
root=$1 configuration=$2 uid=$3
shift 3
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount --bind "$configuration" "$root/etc/gateway"
mount -o remount,bind,ro "$root/etc/gateway"
mount -t proc proc "$root/proc"
mount -t tmpfs -o size=1m,mode=0755 tmpfs "$root/dev"
for device in null zero random urandom; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/shm"
mount -t tmpfs -o size=64m,mode=1777 tmpfs "$root/dev/shm"
exec chroot "$root" setpriv --reuid="$uid" --regid="$uid" --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all \
    sh -c 'cd /etc/gateway && exec "$@"' sh "$@"
