# shellcheck shell=bash disable=SC2034
# Finds a container engine and the images to build on. Sourced by `run`; sets ENGINE and COMPOSE.

say() { printf '\n== %s\n' "$*"; }
pass() { printf 'ok   %s\n' "$*"; }
fail() { printf 'FAIL %s\n' "$*" >&2; exit 1; }

# Wait until a command succeeds: within SECONDS COMMAND...
within() {
  local last=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < last)) || return 1
    sleep 0.5
  done
}

install_packages() {
  [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null || return 1
  echo "Installing with apt-get: $*"
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"; } >"$WORK/apt.log" 2>&1 ||
    { tail -n 5 "$WORK/apt.log" >&2; return 1; }
}

find_engine() {
  if [[ -z ${ENGINE:-} ]]; then
    if command -v podman >/dev/null; then
      ENGINE=podman
    elif command -v docker >/dev/null && docker info >/dev/null 2>&1; then
      ENGINE=docker
    else
      install_packages podman runc catatonit netavark aardvark-dns iptables ||
        fail 'Neither podman nor a running docker was found. Install one of them, or run this as root on Debian.'
      ENGINE=podman
    fi
  fi
  [[ $ENGINE == podman ]] || { COMPOSE=(docker compose); return; }
  COMPOSE=(podman-compose)
  if ! command -v podman-compose >/dev/null; then
    "$ROOT/.venv/bin/python" -m venv "$WORK/podman-compose"
    "$WORK/podman-compose/bin/pip" install -qq --disable-pip-version-check podman-compose
    COMPOSE=("$WORK/podman-compose/bin/podman-compose")
  fi
  # Without systemd, podman most likely runs inside of a container or a sandbox itself, which refuses its
  # defaults: some limits, one of its runtimes. The machine's own configuration is left as it is.
  if [[ ! -d /run/systemd/system && -z ${CONTAINERS_CONF:-} ]]; then
    {
      printf '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]\n'
      ! command -v runc >/dev/null || printf '[engine]\nruntime = "runc"\n'
      [[ ! -x /usr/lib/podman/netavark ]] || printf '[network]\nnetwork_backend = "netavark"\n'
    } >"$WORK/containers.conf"
    export CONTAINERS_CONF=$WORK/containers.conf
  fi
}

# Make a base image out of Debian's packages: from_debian IMAGE PACKAGES [COMMAND in it]
from_debian() {
  local image=$1 packages=$2 prepare=${3:-true} mirror suite
  echo "$image cannot be pulled: making one with debootstrap (a minute)"
  [[ $ENGINE == podman && $(id -u) == 0 ]] || fail 'This needs root and podman.'
  command -v debootstrap >/dev/null || install_packages debootstrap || fail 'debootstrap is missing.'
  suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
  # shellcheck disable=SC2016  # apt-get replaces these
  mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Component: main' |
    awk -v suite="$suite" '$2 == suite { print $1; exit }')
  debootstrap --variant=minbase --include="$packages" "$suite" "$WORK/base" "$mirror" >"$WORK/debootstrap.log" ||
    { tail -n 5 "$WORK/debootstrap.log" >&2; fail "debootstrap could not make $image"; }
  chroot "$WORK/base" sh -c "$prepare"
  tar -C "$WORK/base" -c . | podman import -q --change 'WORKDIR /data' - "$image" >/dev/null
  rm -rf "$WORK/base"
}

# Have an image here, pulled or made. NO_PULL=1 goes straight to making it.
provide() {
  local image=docker.io/library/$1
  shift
  "$ENGINE" image inspect "$image" >/dev/null 2>&1 && return
  [[ -z ${NO_PULL:-} ]] && "$ENGINE" pull -q "$image" >/dev/null 2>&1 && return
  from_debian "$image" "$@"
}

# Build with the machine's pip settings and certificates, so that a mirror or proxy is found: build FILE TAG CONTEXT
build() {
  local arguments=() name
  for name in PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST PIP_CERT; do
    [[ -z ${!name:-} ]] || arguments+=(--build-arg "$name=${!name}")
  done
  if [[ $ENGINE == podman ]]; then
    # OCI images have no place for a health check.
    arguments+=(--format docker --isolation chroot)
    [[ ! -d /etc/ssl/certs ]] || arguments+=(-v /etc/ssl/certs:/etc/ssl/certs:ro)
  fi
  "$ENGINE" build --network host "${arguments[@]}" -f "$1" -t "$2" "$3" >"$WORK/build.log" 2>&1 ||
    { tail -n 20 "$WORK/build.log" >&2; fail "$2 could not be built"; }
}
