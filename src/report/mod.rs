//! Pictures and pages: charts as SVG and PNG, one self-contained HTML page, a vector's model card, and what other engines need to
//! steer by it ([`export`]). Charts and pages know numbers, names and texts, nothing of models or steering but the records of a
//! training run that [`curves`] draws.
//!
//! Begin with [`Chart`] and [`Page`], which everything that is drawn goes through; [`card`] and [`export`] write texts.
//!
//! ```
//! use bipo::report::{Chart, Panel, Point, Series, Style, Theme};
//!
//! let margin = vec![Point::new(-1.0, -0.4).between(-0.6, -0.2), Point::new(1.0, 0.5).between(0.3, 0.7)];
//! let panel = Panel::new("margin", vec![Series::new("held out", Style::Dotted, margin)]);
//! assert!(Chart::new("Effect", "magnitude", vec![panel]).to_svg(Theme::Light).starts_with("<svg"));
//! ```

mod axis;
pub mod card;
mod chart;
pub mod curves;
mod draw;
pub mod export;
mod generations;
mod html;
mod page;
mod picture;
#[cfg(feature = "pictures")]
mod png;
pub mod shell;
mod table;
mod theme;

pub use axis::Scale;
pub use chart::{Chart, Panel, Point, Series, Style};
pub use generations::{Generations, ShownAnswer};
pub use page::{Page, Section, SectionPart};
pub use table::{Cell, Table};
pub use theme::Theme;
