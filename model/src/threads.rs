//! Threads that libraries would start.

use std::io;

/// How many threads candle has for operations on elements; read once, at the first of them.
const CANDLE_NUM_THREADS: &str = "CANDLE_NUM_THREADS";

/// Starts this program again, in its own place, without candle's thread pool, unless the environment says how many
/// threads it is to have. The pool's threads wait for each other by spinning: beside other work on the same cores that
/// took half of a training's time, and it would take the cores from threads that serve. The pool can be set by the
/// environment alone, and a process that has threads may not change that safely. Call it first thing in `main`. Does
/// nothing where a process cannot be replaced.
///
/// # Errors
/// The system does not start it. The program may go on as it is.
pub fn restart_without_candle_threads() -> io::Result<()> {
    #[cfg(unix)]
    if std::env::var_os(CANDLE_NUM_THREADS).is_none() {
        use std::os::unix::process::CommandExt;
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_default();
        let mut command = std::process::Command::new(std::env::current_exe()?);
        return Err(command.arg0(name).args(arguments).env(CANDLE_NUM_THREADS, "1").exec());
    }
    Ok(())
}
