//! Pictures and pages: charts as SVG and PNG, and one self-contained HTML page. Knows numbers, names and texts, nothing of
//! models or steering but the records of a training run that [`curves`] draws.
//!
//! ```
//! use bipo::report::{Chart, Estimate, Panel, Series, Theme};
//!
//! let margin = [Estimate::new(-1.0, -0.4).between(-0.6, -0.2), Estimate::new(1.0, 0.5).between(0.3, 0.7)];
//! let chart = Chart::new("Effect", "magnitude").panel(Panel::new("margin").series(Series::estimates("held out", &margin)));
//! assert!(chart.to_svg(Theme::Light)?.starts_with("<svg"));
//! # Ok::<(), bipo::Error>(())
//! ```

pub mod card;
mod chart;
pub mod curves;
mod draw;
pub mod generations;
mod html;
pub mod page;
mod png;
pub mod shell;
pub mod table;
mod theme;
mod ticks;

pub use chart::{Chart, Estimate, Panel, Scale, Series, Style};
pub use generations::{Answer, Generations};
pub use page::{Block, Page, Section};
pub use table::{Cell, Table};
pub use theme::Theme;
