//! SPDX licence expressions: is one satisfied by a list of accepted licences?

use anyhow::{Result, bail, ensure};

/// Deeper than any real expression.
const MAX_DEPTH: usize = 32;

/// Can `expression` be met with licences of `allowed` alone? The old `A/B` means `A OR B`.
pub(super) fn is_met(expression: &str, allowed: &[String]) -> Result<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut parser = Parser { tokens: spaced.split_whitespace().collect(), at: 0, allowed };
    let met = parser.any_of(0)?;
    ensure!(parser.at == parser.tokens.len(), "not a licence expression: {expression}");
    Ok(met)
}

struct Parser<'a> {
    tokens: Vec<&'a str>,
    at: usize,
    allowed: &'a [String],
}

impl Parser<'_> {
    /// `A OR B`, the weakest binding.
    fn any_of(&mut self, depth: usize) -> Result<bool> {
        ensure!(depth < MAX_DEPTH, "a licence expression nests too deep");
        let mut met = self.all_of(depth)?;
        while self.take("OR") {
            met |= self.all_of(depth)?;
        }
        Ok(met)
    }

    /// `A AND B`.
    fn all_of(&mut self, depth: usize) -> Result<bool> {
        let mut met = self.one(depth)?;
        while self.take("AND") {
            met &= self.one(depth)?;
        }
        Ok(met)
    }

    /// An id, with its exception if it has one, or an expression in parentheses.
    fn one(&mut self, depth: usize) -> Result<bool> {
        if self.take("(") {
            let met = self.any_of(depth + 1)?;
            ensure!(self.take(")"), "a licence expression without its closing parenthesis");
            return Ok(met);
        }
        let Some(id) = self.tokens.get(self.at).copied() else { bail!("a licence expression that breaks off") };
        self.at += 1;
        if !self.take("WITH") {
            return Ok(self.allowed.iter().any(|allowed| allowed == id));
        }
        let Some(exception) = self.tokens.get(self.at).copied() else { bail!("WITH without an exception") };
        self.at += 1;
        let whole = format!("{id} WITH {exception}");
        Ok(self.allowed.contains(&whole))
    }

    fn take(&mut self, token: &str) -> bool {
        let is_next = self.tokens.get(self.at) == Some(&token);
        self.at += usize::from(is_next);
        is_next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(expression: &str) -> bool {
        let allowed = ["MIT", "ISC", "Apache-2.0"].map(str::to_owned);
        is_met(expression, &allowed).expect("the sample is an expression")
    }

    #[test]
    fn expressions_are_read_as_spdx_says() {
        for good in ["MIT", "GPL-3.0 OR MIT", "MIT/Unlicense", "(MIT OR GPL-2.0) AND ISC", "GPL-2.0 OR MIT AND ISC"] {
            assert!(met(good), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND GPL-2.0", "Apache-2.0 WITH LLVM-exception", "mit"] {
            assert!(!met(bad), "{bad}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for bad in ["", "(MIT", "MIT)", "MIT ISC", "MIT AND", "MIT WITH", &"(".repeat(100)] {
            assert!(is_met(bad, &[]).is_err(), "{bad}");
        }
    }
}
