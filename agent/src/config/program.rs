//! A program as it is written in the configuration.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

/// A program and its arguments.
#[derive(Clone, PartialEq, Eq)]
pub struct Program {
    argv: Vec<String>,
}

impl Program {
    /// A program and its arguments; none if there is not even a program.
    pub fn from_argv(argv: Vec<String>) -> Option<Self> {
        (argv.first().is_some_and(|program| !program.is_empty())).then_some(Self { argv })
    }

    /// A line for `/bin/sh`.
    pub fn from_shell(line: &str) -> Self {
        Self { argv: ["/bin/sh", "-c", line].map(str::to_owned).into() }
    }

    /// The program, then its arguments; never empty.
    pub fn argv(&self) -> &[String] {
        &self.argv
    }
}

impl fmt::Display for Program {
    /// As a person would type it. Arguments are part of the configuration, which holds no secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [shell, flag, line] = self.argv.as_slice()
            && shell == "/bin/sh"
            && flag == "-c"
        {
            return f.write_str(line);
        }
        f.write_str(&self.argv.join(" "))
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.argv).finish()
    }
}

impl<'de> Deserialize<'de> for Program {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Written;

        impl<'de> Visitor<'de> for Written {
            type Value = Program;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a program with its arguments, such as [\"/usr/bin/app\", \"start\"], or a shell line",
                )
            }

            fn visit_str<E: Error>(self, line: &str) -> Result<Program, E> {
                if line.trim().is_empty() {
                    return Err(E::custom("the shell line is empty"));
                }
                Ok(Program::from_shell(line))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Program, A::Error> {
                let mut argv = Vec::new();
                while let Some(item) = items.next_element::<String>()? {
                    argv.push(item);
                }
                Program::from_argv(argv).ok_or_else(|| A::Error::custom("the program is empty"))
            }
        }

        from.deserialize_any(Written)
    }
}
