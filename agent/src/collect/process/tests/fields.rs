//! What is read once a window, and how groups are named.

use std::io::Write;
use std::process::Command;

use super::*;

impl Machine {
    /// Other files of bash.
    fn files(&self, [swap_kib, switches, files]: [u64; 3]) {
        let status = format!(
            "Uid:\t0\t33\t0\t0\nVmSwap:\t{swap_kib} kB\nvoluntary_ctxt_switches:\t{switches}\nnonvoluntary_ctxt_switches:\t2\n"
        );
        self.write("proc/17/status", status);
        self.write("proc/17/limits", "Max open files            10         20         files\n");
        for file in 0..files {
            self.write(&format!("proc/17/fd/{file}"), "");
        }
    }

    fn configure(&mut self, text: &str) {
        self.processes = Processes::new(&self.host.roots().procfs, naming(text));
    }
}

#[test]
fn swap_switches_and_files_of_a_group() {
    let mut machine = Machine::new();
    machine.run(BASH);
    machine.files([4, 100, 3]);
    machine.run(Fake { pid: 18, ..BASH });
    machine.tick();
    machine.check("memory_bytes", "bash", &[20.0 * 4_096.0, 2.0 * 8_192.0, 4_096.0]);
    machine.check("open_filedesc", "bash", &[3.0]);
    machine.check("worst_fd_ratio", "bash", &[0.3]);
    machine.check("context_switches_total", "bash", &[0.0, 0.0]);
    machine.files([8, 170, 4]);
    machine.window();
    machine.check("context_switches_total", "bash", &[70.0, 0.0]);
    machine.check("memory_bytes", "bash", &[20.0 * 4_096.0, 2.0 * 8_192.0, 8_192.0]);
    machine.check("worst_fd_ratio", "bash", &[0.4]);
    machine.kill(17);
    machine.window();
    machine.check("context_switches_total", "bash", &[70.0, 0.0]);
    machine.check("open_filedesc", "bash", &[]);
}

#[test]
fn what_has_just_begun_when_the_agent_does_is_read_at_once() {
    let mut machine = Machine::new();
    machine.run(Fake { start: 49_900, read: 5, ..BASH });
    machine.files([0, 7, 3]);
    machine.tick();
    machine.check("open_filedesc", "bash", &[3.0]);
    machine.check("read_bytes_total", "bash", &[5.0]);
}

#[test]
fn what_only_moves_in_a_process_that_ran_is_read_of_those_alone() {
    let mut machine = Machine::new();
    machine.container(1);
    machine.run(Fake { container: true, ..BASH });
    machine.files([0, 1, 1]);
    machine.window();
    machine.window();
    machine.files([0, 9, 2]);
    machine.run(Fake { container: true, pages: 11, ..BASH });
    machine.files([0, 9, 2]);
    machine.window();
    machine.check("open_filedesc", "bash@web", &[1.0]);
    // What is shown in the table is read whatever it did.
    machine.check("memory_bytes", "bash@web", &[11.0 * 4_096.0, 8_192.0, 0.0]);
    machine.container(9);
    machine.window();
    machine.check("open_filedesc", "bash@web", &[2.0]);
    machine.check("context_switches_total", "bash@web", &[8.0, 0.0]);
    machine.files([64, 9, 2]);
    for _ in 0..6 {
        machine.window();
    }
    machine.check("memory_bytes", "bash@web", &[11.0 * 4_096.0, 8_192.0, 65_536.0]);
}

#[test]
fn shared_memory_counts_in_part() {
    let mut machine = Machine::new();
    machine.run(BASH);
    machine.run(Fake { pid: 18, ..BASH });
    machine.write("proc/17/smaps_rollup", "Rss: 40 kB\nPss: 10 kB\n");
    machine.tick();
    machine.patience = Duration::from_secs(30);
    machine.window();
    machine.check("memory_bytes", "bash", &[20.0 * 4_096.0, 2.0 * 8_192.0, 0.0, 5.0 * 4_096.0]);
}

#[test]
fn rules_name_groups_and_the_rest_is_named_by_its_command() {
    let mut machine = Machine::new();
    machine.patience = PATIENCE;
    machine.configure(
        "[[processes.groups]]\ncomm = ['bash', 'dash']\nname = 'shells of {{.Username}}'\n\
         [[processes.groups]]\nexe = ['vim']\ncmdline = ['password=(?P<Secret>.*)']\nname = '{{.Matches.Secret}}'",
    );
    machine.run(BASH);
    machine.run(Fake { pid: 18, comm: "dash", ..BASH });
    machine.run(Fake { pid: 19, comm: "vim", ..BASH });
    machine.run(Fake { pid: 20, comm: "kworker/0:1", kernel: true, ..BASH });
    machine.tick();
    machine.check("num_procs", "shells of www", &[2.0]);
    machine.check("num_procs", "***", &[1.0]);
    machine.check("num_procs", "kworker", &[1.0]);
    machine.check("num_procs", "init", &[1.0]);
    machine.run(Fake { comm: "vim", ..BASH });
    machine.window();
    machine.check("num_procs", "shells of www", &[1.0]);
    machine.check("num_procs", "***", &[2.0]);
}

#[test]
fn what_a_rule_captures_is_shown_in_full_only_if_command_lines_are() {
    let rule = "[[processes.groups]]\ncmdline = ['password=(?P<Secret>.*)']\nname = '{{.Matches.Secret}}'";
    let check = |mode: &str, expect: &str| {
        let mut machine = Machine::new();
        machine.patience = PATIENCE;
        machine.configure(&format!("[processes]\ncommand_line = '{mode}'\n{rule}"));
        machine.run(BASH);
        machine.tick();
        machine.check("num_procs", expect, &[2.0]);
    };
    check("masked", "***");
    check("off", "***");
    check("full", "hunter2");
}

#[test]
fn a_command_line_that_does_not_come_holds_nothing_up() {
    let mut machine = Machine::new();
    machine.configure("[[processes.groups]]\ncmdline = ['--password']\nname = 'named'");
    machine.run(BASH);
    let line = machine.base.path().join("proc/17/cmdline");
    fs::remove_file(&line).unwrap();
    assert!(Command::new("mkfifo").arg(&line).status().unwrap().success());
    machine.tick();
    machine.check("num_procs", "bash", &[1.0]);
    let table = machine.window();
    assert_eq!((table[0].pid, table[0].command_line.as_str()), (17, ""));
    // Given up, it no longer stands before the others.
    machine.now = Duration::from_secs(10);
    machine.tick();
    machine.patience = PATIENCE;
    machine.run(Fake { pid: 18, cpu: 120, ..BASH });
    while machine.second % 10 != 0 {
        machine.tick();
    }
    assert!(matches!(machine.try_tick(), Err(CollectError::Silent(_))));
    machine.check("num_procs", "bash", &[1.0]);
    machine.check("num_procs", "named", &[2.0]);
    let mut answer = fs::OpenOptions::new().write(true).open(&line).unwrap();
    answer.write_all(b"bash\0--password=x\0").unwrap();
    drop(answer);
    while machine.processes.lines.outcome().is_err() {
        drop(machine.try_tick());
    }
    machine.check("num_procs", "bash", &[0.0]);
    machine.check("num_procs", "named", &[3.0]);
}

#[test]
fn ten_thousand_processes_within_the_budget_of_descriptors() {
    let mut machine = Machine::new();
    for pid in 2..10_000 {
        let stat = format!("{pid} (many) S 1 1 1 0 -1 0 1 0 1 0 5 5 0 0 20 0 1 0 4000 8192 1 0 0\n");
        machine.write(&format!("proc/{pid}/stat"), stat);
    }
    machine.processes.kept_open_max = 100;
    machine.tick();
    machine.check("num_procs", "many", &[9_998.0]);
    assert_eq!(machine.processes.kept_open, 100);
    machine.write("proc/9999/stat", "9999 (many) S 1 1 1 0 -1 0 1 0 1 0 95 5 0 0 20 0 1 0 4000 8192 1 0 0\n");
    machine.tick();
    machine.check("cpu_seconds_total", "many", &[0.9, 0.0]);
    for pid in 2..9_999 {
        machine.kill(pid);
    }
    machine.tick();
    machine.check("num_procs", "many", &[1.0]);
    assert!(machine.processes.kept_open <= 2, "{}", machine.processes.kept_open);
}

#[test]
fn of_many_that_ended_the_busiest_are_in_the_table() {
    let mut machine = Machine::new();
    machine.tick();
    for pid in 100..500 {
        machine.run(Fake { pid, start: 60_000, cpu: 1, ..BASH });
    }
    machine.run(Fake { pid: 600, comm: "busy", start: 60_000, cpu: 30, ..BASH });
    machine.tick();
    for pid in (100..500).chain([600]) {
        machine.kill(pid);
    }
    machine.tick();
    assert_eq!(machine.processes.ended.len(), ENDED_MAX);
    let table = machine.window();
    assert!(table.iter().any(|process| process.command == "busy" && process.cpu_ms == 600));
}
