//! What a training shows while it runs: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use evenkeel_lab::Event;
use evenkeel_record::Line;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use crate::say::tell;

/// Shows events on the standard error.
pub struct Progress {
    bar: Option<ProgressBar>,
    started: Instant,
    first_step: u64,
    step: u64,
    steps: u64,
    /// What is evaluated on.
    on: &'static str,
}

const BAR: &str = "{bar:30} {pos}/{len} steps  {msg}";

/// A bar on a terminal; elsewhere one that nobody sees.
pub fn bar(template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template);
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

impl Progress {
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| bar(BAR));
        Self {
            bar,
            started: Instant::now(),
            first_step: 0,
            step: 0,
            steps: 0,
            on: "test",
        }
    }

    pub fn show(&mut self, event: Event<'_>) {
        match event {
            Event::Ready { run, step, steps } => {
                (self.first_step, self.step, self.steps) = (step, step, steps);
                self.started = Instant::now();
                self.on = if run.data.held_out {
                    "held-out"
                } else {
                    "test"
                };
                if let Some(bar) = &self.bar {
                    bar.set_length(steps);
                    bar.set_position(step);
                }
                let from = if step > 0 {
                    format!(", going on after step {step}")
                } else {
                    String::new()
                };
                for unreadable in &run.data.unreadable {
                    self.line(&format!("note: unreadable: {unreadable}"));
                }
                self.line(&format!(
                    "{}: {} training and {} {} examples, {} parameters, {steps} steps, seed {}{from}",
                    run.data.source,
                    run.data.train_examples,
                    run.data.test_examples,
                    self.on,
                    run.parameters,
                    run.seed,
                ));
                if let Some(summary) = run.decay.first() {
                    self.line(&format!("weight decay: {summary}"));
                }
            }
            Event::Step {
                step,
                loss,
                accuracy,
                images_per_s,
                ..
            } => {
                self.step = step;
                if let Some(bar) = &self.bar {
                    bar.set_position(step);
                    bar.set_message(format!(
                        "loss {loss:.4}  accuracy {:.1} %  {images_per_s:.0} images/s  {}",
                        100.0 * accuracy,
                        self.left()
                    ));
                }
            }
            Event::Epoch { line, epochs } => {
                let Line::Epoch {
                    epoch,
                    train_loss,
                    test_loss,
                    test_accuracy,
                    images_per_s,
                    ..
                } = line
                else {
                    return;
                };
                let on = self.on;
                self.line(&format!(
                    "epoch {epoch}/{epochs}  train loss {train_loss:.4}  {on} loss {test_loss:.4}  \
                     {on} accuracy {:.2} %  {images_per_s:.0} images/s  {}",
                    100.0 * test_accuracy,
                    self.left()
                ));
            }
        }
    }

    /// The time left, by the pace since the start.
    fn left(&self) -> String {
        let done = self.step - self.first_step;
        if done == 0 || self.step == self.steps {
            return String::new();
        }
        let pace = self.started.elapsed().as_secs_f64() / done as f64;
        let left = Duration::from_secs_f64(pace * (self.steps - self.step) as f64);
        format!("{} left", HumanDuration(left))
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => tell(text),
        }
    }

    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
