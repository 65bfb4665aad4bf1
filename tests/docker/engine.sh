# Sourced by the scripts that need a real Docker engine: starts one of their own below a temporary directory, $place,
# without network, with one image, and ends it with the script. Left out, loudly, where there is no engine to start.
test=tests/docker/${0##*/}
skip() { echo "$test: SKIPPED: $1" >&2; exit 0; }
fail() { echo "$test: FAILED: $1" >&2; tail -5 "$place/dockerd.log" >&2; exit 1; }

[ "$(id -u)" = 0 ] || skip "only root can start a Docker engine"
for program in dockerd docker busybox; do
    command -v "$program" >/dev/null || skip "$program is missing (Debian: apt install docker.io busybox-static)"
done
[ -w /sys/fs/cgroup ] || skip "cgroups are read-only here"

place=$(mktemp -d /tmp/lapwing-docker.XXXXXX)
engine=
end_engine() {
    local containers
    if [ -n "$engine" ]; then
        kill -CONT "$engine" 2>/dev/null || true
        containers=$(docker ps -aq 2>/dev/null || true)
        # shellcheck disable=SC2086
        [ -z "$containers" ] || docker rm -f $containers >/dev/null 2>&1 || true
        kill "$engine" 2>/dev/null || true
        wait "$engine" 2>/dev/null || true
    fi
    # The engine leaves the host's network namespace mounted when a container has used it.
    umount "$place/exec/netns/default" 2>/dev/null || true
    rm -rf "$place" 2>/dev/null || true
}
trap end_engine EXIT

export DOCKER_HOST="unix://$place/docker.sock"
dockerd --data-root "$place/data" --exec-root "$place/exec" --pidfile "$place/docker.pid" -H "$DOCKER_HOST" \
    --iptables=false --ip6tables=false --bridge=none --storage-driver=vfs >"$place/dockerd.log" 2>&1 &
engine=$!
for _ in $(seq 100); do
    docker version >/dev/null 2>&1 && break
    kill -0 "$engine" 2>/dev/null || break
    sleep 0.1
done
docker version >/dev/null 2>&1 || skip "no Docker engine starts here: $(tail -1 "$place/dockerd.log")"

mkdir -p "$place/image/bin"
cp "$(command -v busybox)" "$place/image/bin/busybox"
ln -s busybox "$place/image/bin/sh"
tar -C "$place/image" -c . | docker import - lapwing-test:1 >/dev/null

start() { # name, script, options of docker run
    local name=$1 script=$2
    shift 2
    docker run -d --name "$name" --network none "$@" lapwing-test:1 /bin/busybox sh -c "$script" >/dev/null ||
        skip "no container starts here: $(tail -1 "$place/dockerd.log")"
}
