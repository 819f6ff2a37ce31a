use super::*;
use crate::config::Config;

fn located(dialect: &str, base_url: &str, uri: &str) -> String {
    let text = format!("upstreams: {{ u: {{ dialect: {dialect}, base_url: \"{base_url}\" }} }}");
    let config = Config::parse(&text, "test.yaml", &|_| None).unwrap();
    let provider = Provider::new(Arc::clone(&config.upstreams()[0]), Duration::ZERO);
    provider.locate(&uri.parse().unwrap()).to_string()
}

#[test]
fn paths_join_as_the_sdks_join_them() {
    let chat = "/v1/chat/completions";
    let openai = |base, uri| located("openai", base, uri);
    assert_eq!(openai("https://api.openai.com/v1", chat), chat);
    assert_eq!(
        openai("https://api.openai.com/v1/", "/v1/models?limit=2"),
        "/v1/models?limit=2"
    );
    assert_eq!(openai("http://127.0.0.1:9000", chat), chat);
    assert_eq!(
        openai("https://x.example/api/paas/v4", chat),
        "/api/paas/v4/chat/completions"
    );
    assert_eq!(
        openai("http://127.0.0.1:9000", "http://proxy.example/v1/models"),
        "/v1/models"
    );
    let anthropic = |base| located("anthropic", base, "/v1/messages");
    assert_eq!(anthropic("https://api.anthropic.com"), "/v1/messages");
    assert_eq!(
        anthropic("https://x.example/anthropic"),
        "/anthropic/v1/messages"
    );
    assert_eq!(anthropic("https://x.example/v1"), "/v1/messages");
    let generate = "/v1beta/models/gemini-2.5-pro:generateContent";
    assert_eq!(located("gemini", "https://g.example", generate), generate);
    assert_eq!(
        located("gemini", "https://g.example/v1beta", generate),
        generate
    );
}
