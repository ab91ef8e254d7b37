//! A rival's process: one command a line in, one answer a line out.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A rival's process. It ends when its input does.
pub(crate) struct Rival {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Rival {
    /// ONNX Runtime, in the Python of the environment variable `PYTHON`.
    pub(crate) fn onnx() -> Result<Self, String> {
        let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/network");
        let mut command = Command::new(&python);
        command.arg(folder.join("onnx_runtime.py"));
        Self::start(command).and_then(|mut rival| rival.ask("load probe 1 1").map(|_| rival)).map_err(|e| {
            let needs = folder.join("requirements.txt");
            format!("{e}; PYTHON must name an interpreter with the packages of {}", needs.display())
        })
    }

    /// Stock candle, the program of the environment variable `CANDLE`, with that many rayon threads or rayon's default.
    pub(crate) fn candle(threads: Option<usize>) -> Result<Self, String> {
        let program = std::env::var("CANDLE").map_err(|_| "CANDLE must name the program of benches/stock-candle")?;
        let mut command = Command::new(program);
        match threads {
            Some(threads) => command.env("RAYON_NUM_THREADS", threads.to_string()),
            None => command.env_remove("RAYON_NUM_THREADS"),
        };
        Self::start(command)
    }

    fn start(mut command: Command) -> Result<Self, String> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{:?}: {e}", command.get_program()))?;
        let input = child.stdin.take();
        let output = child.stdout.take().ok_or("no standard output")?;
        Ok(Self { child, input, output: BufReader::new(output) })
    }

    /// Sends a command and waits for the answer.
    pub(crate) fn ask(&mut self, command: &str) -> Result<String, String> {
        let mut answer = String::new();
        let input = self.input.as_mut().ok_or("no standard input")?;
        let read = writeln!(input, "{command}").and_then(|()| self.output.read_line(&mut answer));
        match read {
            Ok(length) if length > 0 => Ok(answer.trim().to_owned()),
            Ok(_) => Err(format!("`{command}`: the process has ended")),
            Err(error) => Err(format!("`{command}`: {error}")),
        }
    }

    /// Sends a command that is answered with a number.
    pub(crate) fn number(&mut self, command: &str) -> Result<f64, String> {
        let answer = self.ask(command)?;
        answer.parse().map_err(|_| format!("`{command}` is answered with `{answer}`"))
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.wait();
    }
}
