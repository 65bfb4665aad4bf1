//! From a cgroup path to the name of what runs in it.
