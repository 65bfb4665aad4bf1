# Sourced by the scripts that need a real aggregator, with a real agent or without: starts them in a directory of their
# own, on loopback, and ends them with the script. Sets $dir, $http, $server and $agent; `aggregator` runs a command of the
# aggregator; `fail` ends the script with what the logs say; `until_true` waits; `get` and `counted` ask the aggregator.
#   start_pair BIN HTTP_PORT QUIC_PORT [arguments of the agent]
#   start_aggregator BIN HTTP_PORT QUIC_PORT [address for QUIC]     with the configuration $config, if that is set
children=()
root=$(mktemp -d)
dir=$root/var
mkdir "$dir"

stop_pair() {
  trap - EXIT
  for child in "${children[@]}"; do kill -TERM "$child" 2>/dev/null || :; done
  wait
  ! mountpoint -q "$dir" || umount "$dir"
  rm -rf "$root"
}
trap stop_pair EXIT
trap 'exit 1' INT TERM

aggregator() { "$bin/lapwing-aggregator" "$@" --data-dir "$dir"; }
fail() { # why
  echo "${0%/*}: FAILED: $1" >&2
  tail -n 8 "$root"/*.log "$dir"/*.log 2>/dev/null | cut -c 1-1000 >&2
  exit 1
}
until_true() { # seconds, what if not, command
  local left=$1 what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    left=$((left - 1))
    [ $left -gt 0 ] || fail "$what: $*"
    sleep 1
  done
}
get() { # path: the whole answer
  exec 3<>"/dev/tcp/127.0.0.1/$http"
  printf 'GET %s HTTP/1.0\r\nAuthorization: Bearer %s\r\n\r\n' "$1" "$(cat "$dir/admin.token")" >&3
  cat <&3
  exec 3>&-
}
counted() { get /metrics | grep "^lapwing_aggregator_$1 $2\$"; } # metric, value: a pattern

start_aggregator() {
  bin=$1 http=$2
  local given
  given=$(cut -f 1 /proc/sys/net/ipv4/ip_local_port_range)
  [ "$3" -lt "$given" ] && [ "$2" -lt "$given" ] || fail "from port $given on the kernel gives them to whoever connects"
  # That of one that was killed is no sign of this one: a command asked too early would own the directory itself.
  rm -f "$dir/control.sock"
  LAPWING__HTTP__LISTEN=127.0.0.1:$2 LAPWING__INGEST__LISTEN=${4:-127.0.0.1}:$3 \
    "$bin/lapwing-aggregator" run --data-dir "$dir" ${config:+--config "$config"} 2>>"$dir/aggregator.log" &
  server=$!
  children+=("$server")
  until [ -S "$dir/control.sock" ] && aggregator host list >/dev/null 2>&1; do
    kill -0 "$server" 2>/dev/null || { cat "$dir/aggregator.log" >&2; exit 1; }
    sleep 0.1
  done
}

start_pair() {
  export LAPWING__HTTP__LISTEN=127.0.0.1:$2 LAPWING__INGEST__LISTEN=127.0.0.1:$3
  start_aggregator "$1" "$2" "$3"
  local quic=$3
  shift 3
  local token
  token=$(aggregator token create | tail -n 1)
  env -u LAPWING__HTTP__LISTEN -u LAPWING__INGEST__LISTEN "$bin/lapwing-agent" run \
    --state-dir "$dir/agent" --aggregator "127.0.0.1:$quic" --join "$token" "$@" 2>"$dir/agent.log" &
  agent=$!
  children+=("$agent")
}
