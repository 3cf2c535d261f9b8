//! A screen of one's own on the terminal, keys, and signals; all is as it was when it is left.

use std::io::Read as _;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH};
use signal_hook::iterator::Signals;

use crate::cli::error::CommandError;
use crate::cli::ui::Ui;

/// The other screen, no cursor, no wrapping; and back.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l\u{1b}[?7l\u{1b}[2J";
const LEAVE: &str = "\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l";
/// Around a picture that is to appear at once.
const BEGIN: &str = "\u{1b}[?2026h\u{1b}[H";
const END: &str = "\u{1b}[?2026l";

/// What ends a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    Time,
    Resized,
    /// A key, or a signal, by which the user leaves.
    Leave,
}

pub(super) struct Terminal {
    ui: Ui,
    /// None where standard input is no terminal.
    before: Option<Termios>,
    receiver: Receiver<Wake>,
}

impl Terminal {
    pub(super) fn open(ui: &Ui) -> Result<Self, CommandError> {
        let failed = |source| CommandError::Io {
            action: "cannot use the terminal".into(),
            source,
        };
        let (sender, receiver) = channel();
        forward_signals(sender.clone()).map_err(failed)?;
        let before = tcgetattr(std::io::stdin()).ok();
        if let Some(before) = &before {
            let mut quiet = before.clone();
            // Ctrl-C stays a signal. Ctrl-Z would leave the terminal as it is.
            quiet.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
            quiet.special_codes[SpecialCodeIndex::VSUSP] = 0;
            tcsetattr(std::io::stdin(), OptionalActions::Now, &quiet).map_err(|error| failed(error.into()))?;
            // It ends with the process.
            let keys = std::thread::Builder::new().spawn(move || forward_keys(&sender));
            keys.map_err(failed)?;
        }
        let mut terminal = Self {
            ui: *ui,
            before,
            receiver,
        };
        terminal.ui.out(ENTER)?;
        Ok(terminal)
    }

    /// Columns and rows.
    pub(super) fn size() -> (usize, usize) {
        let size = tcgetwinsize(std::io::stdout()).ok();
        let size = size.map(|size| (usize::from(size.ws_col), usize::from(size.ws_row)));
        size.filter(|(columns, rows)| *columns > 0 && *rows > 0)
            .unwrap_or((80, 24))
    }

    pub(super) fn draw(&mut self, lines: &[String]) -> Result<(), CommandError> {
        // Rows are cleared before they are written: behind a full one the cursor stands on its last letter.
        let rows: Vec<String> = lines.iter().map(|line| format!("\u{1b}[2K{line}")).collect();
        // No end of line behind the last row of the screen: it would move all up.
        let rest = match rows.len() < Self::size().1 {
            true => "\r\n\u{1b}[J",
            false => "",
        };
        self.ui.out(&format!("{BEGIN}{}{rest}{END}", rows.join("\r\n")))
    }

    pub(super) fn wait(&self, time: Duration) -> Wake {
        self.receiver.recv_timeout(time).unwrap_or(Wake::Time)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // One that went away has nothing to be restored.
        let _ = self.ui.out(LEAVE);
        if let Some(before) = &self.before {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, before);
        }
    }
}

fn forward_signals(sender: Sender<Wake>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGWINCH, SIGINT, SIGTERM, SIGHUP])?;
    std::thread::Builder::new().spawn(move || {
        for signal in signals.forever() {
            let wake = if signal == SIGWINCH { Wake::Resized } else { Wake::Leave };
            if sender.send(wake).is_err() {
                break;
            }
        }
    })?;
    Ok(())
}

fn forward_keys(sender: &Sender<Wake>) {
    let mut keys = [0; 64];
    while let Ok(count @ 1..) = std::io::stdin().read(&mut keys) {
        let leaves = keys[..count].iter().any(|key| matches!(key, b'q' | b'Q' | 3 | 4));
        // An escape alone; keys such as arrows begin with one.
        if (leaves || keys[..count] == [0x1b]) && sender.send(Wake::Leave).is_err() {
            break;
        }
    }
}
