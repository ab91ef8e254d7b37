//! What libraries read from the environment, once, before a program has done anything.

use std::io;

/// Candle's thread pool, for operations on elements: none. Its threads wait for each other by spinning: beside other work
/// on the same cores that took half of a training's time, and it would take the cores from threads that serve.
pub const NO_CANDLE_THREADS: (&str, &str) = ("CANDLE_NUM_THREADS", "1");

/// Starts this program again, in its own place, with these settings in its environment, as far as it does not have them.
/// They can be set there alone, and a process that has threads may not change its environment safely. Call it first
/// thing in `main`. Does nothing where a process cannot be replaced.
///
/// # Errors
/// The system does not start it. The program may go on as it is.
pub fn restart_with(settings: &[(&str, &str)]) -> io::Result<()> {
    #[cfg(unix)]
    {
        let missing = || settings.iter().filter(|(name, _)| std::env::var_os(name).is_none());
        if missing().next().is_some() {
            use std::os::unix::process::CommandExt;
            let mut arguments = std::env::args_os();
            let name = arguments.next().unwrap_or_default();
            let mut command = std::process::Command::new(std::env::current_exe()?);
            return Err(command.arg0(name).args(arguments).envs(missing().copied()).exec());
        }
    }
    Ok(())
}
