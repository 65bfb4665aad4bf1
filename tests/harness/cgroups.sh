# Sourced by the scripts that make cgroups of their own, in version 1, version 2 or both, as the host has them. Needs
# root. All lie below one parent, which `remove_cgroup_parent` removes with whatever runs in it.

# Hierarchies with the controllers that matter here.
cgroup_roots() {
  awk '{ for (i = 7; i <= NF; i++) if ($i == "-") { type = $(i + 1); options = "," $NF "," } }
    type == "cgroup2" || (type == "cgroup" && options ~ /,(cpu|cpuacct|memory|blkio|pids|name=systemd),/) { print $5 }' /proc/self/mountinfo
}

make_cgroup_parent() { # name
  cgroup_parent=$1
  mapfile -t cgroup_roots < <(cgroup_roots)
  [ ${#cgroup_roots[@]} -gt 0 ] || { echo "no cgroups are mounted here" >&2; exit 1; }
  make_cgroup ""
  local root controller
  for root in "${cgroup_roots[@]}"; do
    [ -e "$root/cgroup.controllers" ] || continue
    for controller in cpu memory io pids; do
      # Not each is there, and not each may be passed on.
      { echo "+$controller" >"$root/cgroup.subtree_control" && echo "+$controller" >"$root/$cgroup_parent/cgroup.subtree_control"; } 2>/dev/null || :
    done
  done
}

# Runs the script again in namespaces of its own: what else runs on the machine would come and go in its figures.
run_alone() { # script, further namespaces
  [ -n "${LAPWING_ALONE:-}" ] ||
    LAPWING_ALONE=1 exec unshare --mount --pid --fork --kill-child --mount-proc "${@:2}" "$PWD/$1"
}

# The same of cgroups: shows below a directory those of the parent alone.
show_own_cgroups() { # directory
  local tree seen
  for tree in "${cgroup_roots[@]}"; do
    seen=$1${tree#/sys/fs/cgroup}/$cgroup_parent
    mkdir -p "$seen"
    mount --bind "$tree/$cgroup_parent" "$seen"
  done
}

remove_own_cgroups() { # directory
  umount --lazy "$1"/*/"$cgroup_parent" "$1/$cgroup_parent" 2>/dev/null || :
  remove_cgroup_parent 2>/dev/null
}

make_cgroup() { # name below the parent
  local root
  for root in "${cgroup_roots[@]}"; do mkdir -p "$root/$cgroup_parent/$1"; done
}

move_to_cgroup() { # name, pid
  local root
  for root in "${cgroup_roots[@]}"; do echo "$2" >"$root/$cgroup_parent/$1/cgroup.procs"; done
}

# The subshell that calls it, and what it starts from then on.
enter_cgroup() { # name
  move_to_cgroup "$1" "$BASHPID"
}

cgroup_cpu_us() { # name
  local root
  for root in "${cgroup_roots[@]}"; do
    if [ -e "$root/$cgroup_parent/$1/cpuacct.usage" ]; then
      echo $(($(<"$root/$cgroup_parent/$1/cpuacct.usage") / 1000))
      return
    fi
  done
  awk '$1 == "usage_usec" { print $2 }' "$root/$cgroup_parent/$1/cpu.stat"
}

remove_cgroup() { # name, with whatever runs in it and below
  local root left
  for root in "${cgroup_roots[@]}"; do
    [ -d "$root/$cgroup_parent/$1" ] || continue
    for _ in $(seq 100); do
      left=$(find "$root/$cgroup_parent/$1" -name cgroup.procs -exec cat {} +)
      [ -n "$left" ] || break
      # shellcheck disable=SC2086
      kill -KILL $left 2>/dev/null || :
      sleep 0.1
    done
    find "$root/$cgroup_parent/$1" -depth -type d -exec rmdir {} + 2>/dev/null || :
  done
}

remove_cgroup_parent() { remove_cgroup ""; }

# Processes of one container: they sleep, and in one container of five one works a little five times a second.
busy='for (;;) { select undef, undef, undef, 0.2; for (my $i = 0; $i < 5000; $i++) {} }'
populate() { # cgroup, processes, whether one works
  (
    enter_cgroup "$1"
    for _ in $(seq 2 "$2"); do sleep infinity & done
    if [ "$3" = 0 ]; then exec perl -e "$busy"; else exec sleep infinity; fi
  ) &
  disown
}
containers=0
grow_containers() { # processes, containers: as many in all
  local each=$(($1 / $2)) name
  while [ "$containers" -lt "$2" ]; do
    name=docker-$(printf '%064x' $((containers + 1))).scope
    make_cgroup "$name"
    populate "$name" "$each" $((containers % 5))
    containers=$((containers + 1))
  done
}
