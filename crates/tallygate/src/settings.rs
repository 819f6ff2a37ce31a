//! Where a configuration comes from: a file, standard input, or provider keys in the environment.

use std::io::Read;
use std::path::Path;

use tallygate_server::{Config, ConfigErrors};

use crate::exit::{Exit, Failure};

/// The text of a configuration and the name that its problems are shown under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) text: String,
}

impl Settings {
    /// Reads a file; `-` is standard input.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let name = if path.as_os_str() == "-" {
            "standard input".to_owned()
        } else {
            path.display().to_string()
        };
        let text = text_of(path).map_err(|error| {
            Failure::new(
                Exit::Config,
                format!("the configuration {name} cannot be read: {error}"),
            )
        })?;
        Ok(Self { name, text })
    }

    /// A configuration for the provider keys that `env` has: each provider with limits that suit a new account. `None`
    /// without any key.
    pub(crate) fn of_environment(env: &dyn Fn(&str) -> Option<String>) -> Option<Self> {
        let has_key =
            |provider: &&Provider| env(provider.variable).is_some_and(|key| !key.is_empty());
        let upstreams: Vec<String> = PROVIDERS
            .iter()
            .filter(has_key)
            .map(Provider::line)
            .collect();
        if upstreams.is_empty() {
            return None;
        }
        let text = format!("{HEAD}upstreams:\n{}{LIMITS}", upstreams.concat());
        Some(Self {
            name: BUILT_IN.to_owned(),
            text,
        })
    }

    /// Whether it was made here, and is nobody's file.
    pub(crate) fn is_built_in(&self) -> bool {
        self.name == BUILT_IN
    }

    /// Parses it with the process's environment.
    pub(crate) fn parse(&self) -> Result<Config, ConfigErrors> {
        Config::parse(&self.text, &self.name, &|name| std::env::var(name).ok())
    }

    /// Parses it; its problems are the failure.
    pub(crate) fn config(&self) -> Result<Config, Failure> {
        self.parse()
            .map_err(|errors| Failure::shown(Exit::Config, errors.render()))
    }
}

fn text_of(path: &Path) -> std::io::Result<String> {
    if path.as_os_str() != "-" {
        return std::fs::read_to_string(path);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

/// A provider that can be used with nothing but its key.
struct Provider {
    name: &'static str,
    base_url: &'static str,
    variable: &'static str,
}

impl Provider {
    fn line(&self) -> String {
        let Self {
            name,
            base_url,
            variable,
        } = self;
        format!(
            "  {name}: {{ dialect: {name}, base_url: \"{base_url}\", api_key: \"${{{variable}}}\" }}\n"
        )
    }
}

const PROVIDERS: [Provider; 3] = [
    Provider {
        name: "openai",
        base_url: "https://api.openai.com/v1",
        variable: "OPENAI_API_KEY",
    },
    Provider {
        name: "anthropic",
        base_url: "https://api.anthropic.com",
        variable: "ANTHROPIC_API_KEY",
    },
    Provider {
        name: "gemini",
        base_url: "https://generativelanguage.googleapis.com",
        variable: "GEMINI_API_KEY",
    },
];

const BUILT_IN: &str = "the built-in configuration";

const HEAD: &str = "listen: 127.0.0.1:8787
admin: 127.0.0.1:8788
store: memory
";

/// The entry tiers of the large providers allow at least this much a minute for their common models.
const LIMITS: &str = "limits:
  - { name: minute, per: [upstream, model], requests: 50, tokens: 30_000, every: 60s }
";

#[cfg(test)]
mod tests {
    use super::Settings;
    use tallygate_server::Config;

    #[test]
    fn a_provider_key_is_enough_for_a_configuration() {
        for names in [
            &["OPENAI_API_KEY"][..],
            &["ANTHROPIC_API_KEY", "GEMINI_API_KEY"],
        ] {
            let env = |name: &str| names.contains(&name).then(|| "key".to_owned());
            let settings = Settings::of_environment(&env).unwrap();
            let config = Config::parse(&settings.text, "built-in", &env).unwrap();
            assert_eq!(config.upstreams().len(), names.len());
            assert!(config.warnings().problems().is_empty());
        }
    }

    #[test]
    fn without_a_key_there_is_none() {
        assert_eq!(Settings::of_environment(&|_| None), None);
        assert_eq!(Settings::of_environment(&|_| Some(String::new())), None);
    }
}
