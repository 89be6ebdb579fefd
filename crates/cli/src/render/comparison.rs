//! What two people compare, for reading aloud: pictures, their names, and numbers for who cannot see the pictures.

use handfast::Comparison;

use super::clean;

/// Between pictures; a picture may be one or two columns wide, so nothing is lined up under it.
const GAP: &str = "   ";

/// The question. Its answer is never yes by default.
pub(crate) const QUESTION: &str = "Do both devices show the same?";

/// What stands above the question.
pub(crate) fn description(comparison: &Comparison) -> String {
    format!("\nCompare with the other device, before either says who it is:\n{}", pictures(comparison))
}

/// The pictures, their names below in the same order, and the numbers.
pub(crate) fn pictures(comparison: &Comparison) -> String {
    let list = |parts: &[String], gap: &str| parts.iter().map(|part| clean(part)).collect::<Vec<_>>().join(gap);
    let (emoji, names) = (list(&comparison.emoji, GAP), list(&comparison.names, " · "));
    format!("\n    {emoji}\n    {names}\n    or the numbers  {}\n", clean(&comparison.digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a18_the_pictures_stand_above_their_names_and_numbers() {
        let own = |parts: [&str; 7]| parts.map(str::to_owned).to_vec();
        let comparison = Comparison {
            emoji: own(["☕", "👻", "🐙", "🐸", "🐘", "🚀", "🍦"]),
            names: own(["cup", "ghost", "octopus", "frog", "elephant", "rocket", "ice cream"]),
            digits: "3755 6505 6589".to_owned(),
        };
        assert_eq!(
            pictures(&comparison),
            "
    ☕   👻   🐙   🐸   🐘   🚀   🍦
    cup · ghost · octopus · frog · elephant · rocket · ice cream
    or the numbers  3755 6505 6589
"
        );
        assert!(description(&comparison).starts_with("\nCompare with the other device"));
    }
}
