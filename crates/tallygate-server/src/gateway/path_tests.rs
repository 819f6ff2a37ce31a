use super::*;

fn request(method: Method, uri: &str) -> Request<()> {
    Request::builder().method(method).uri(uri).body(()).unwrap()
}

#[test]
fn calls_are_told_by_method_and_path() {
    let post = |uri| request(Method::POST, uri);
    let cases = [
        ("/v1/chat/completions", Endpoint::ChatCompletions, None),
        ("/v1/responses?x=1", Endpoint::Responses, None),
        ("/v1/completions", Endpoint::Completions, None),
        ("/v1/embeddings", Endpoint::Embeddings, None),
        ("/v1/messages", Endpoint::Messages, None),
        ("/v1/messages/count_tokens", Endpoint::CountTokens, None),
        (
            "/v1beta/models/gemini-2.5-pro:generateContent",
            Endpoint::GenerateContent,
            Some("gemini-2.5-pro"),
        ),
        (
            "/v1/models/g:streamGenerateContent?alt=sse",
            Endpoint::StreamGenerateContent,
            Some("g"),
        ),
    ];
    for (uri, endpoint, model) in cases {
        let path_model = model.map(Box::from);
        let asked = Asked {
            endpoint,
            path_model,
        };
        assert_eq!(destination(&post(uri)), Destination::Sized(asked), "{uri}");
    }
}

#[test]
fn the_model_of_a_path_is_replaced_and_nothing_else() {
    for (uri, expected) in [
        (
            "/v1beta/models/pro:generateContent?key=a:b",
            "/v1beta/models/flash-2:generateContent?key=a:b",
        ),
        (
            "/v1/models/models:streamGenerateContent?alt=sse",
            "/v1/models/flash-2:streamGenerateContent?alt=sse",
        ),
        ("/v1beta/models", "/v1beta/models"),
    ] {
        let uri: Uri = uri.parse().unwrap();
        assert_eq!(with_model(&uri, "flash-2"), expected);
    }
    let uri: Uri = "/v1beta/models/pro:generateContent".parse().unwrap();
    for other in ["pro", "a/b", "a?b", "a b"] {
        assert_eq!(with_model(&uri, other), uri, "{other}");
    }
}

#[test]
fn tuned_models_and_openais_calls_at_google_are_sized() {
    let to = |uri: &str| destination(&request(Method::POST, uri));
    let asked = |endpoint, model: Option<&str>| {
        let path_model = model.map(Box::from);
        Destination::Sized(Asked {
            endpoint,
            path_model,
        })
    };
    let tuned = asked(Endpoint::GenerateContent, Some("tunedModels/x"));
    assert_eq!(to("/v1beta/tunedModels/x:generateContent"), tuned);
    for (path, endpoint) in [
        ("chat/completions", Endpoint::ChatCompletions),
        ("embeddings", Endpoint::Embeddings),
    ] {
        let uri = format!("/v1beta/openai/{path}?a=b");
        assert_eq!(to(&uri), asked(endpoint, None));
        let uri: Uri = uri.parse().unwrap();
        assert_eq!(of_openai(&uri), *format!("/v1/{path}?a=b"));
    }
    let uri: Uri = "/v1beta/tunedModels/x:generateContent?k".parse().unwrap();
    assert_eq!(
        with_model(&uri, "flash-2"),
        "/v1beta/models/flash-2:generateContent?k"
    );
    let back = with_model(
        &"/v1/models/m:generateContent".parse().unwrap(),
        "tunedModels/x",
    );
    assert_eq!(back, "/v1/tunedModels/x:generateContent");
}

fn to(method: Method, uri: &str, header: Option<&'static str>) -> Destination {
    let mut request = request(method, uri);
    if let Some(name) = header {
        request.headers_mut().insert(name, "x".parse().unwrap());
    }
    destination(&request)
}

#[test]
fn the_rest_passes_by_what_it_may_yield() {
    let (openai, gemini) = (Dialect::OpenAi, Dialect::Gemini);
    let (nothing, anything) = (Yields::Nothing, Yields::Anything);
    for (line, dialect, yields) in [
        ("GET /v1/models", openai, nothing),
        ("GET /v1/models/ft%3Agpt-4o%3Aorg", openai, nothing),
        ("GET /v1/chat/completions", openai, nothing),
        ("DELETE /v1/responses/r", openai, nothing),
        ("GET /v1/threads/t/messages", openai, nothing),
        ("POST /v1/threads/t/messages", openai, nothing),
        ("POST /v1/files", openai, nothing),
        ("POST /v1/batches", openai, anything),
        ("PATCH /v1/new", openai, anything),
        ("GET /v1beta/models", gemini, nothing),
        (
            "POST /v1beta/models/g:batchGenerateContent",
            gemini,
            anything,
        ),
    ] {
        let (method, path) = line.split_once(' ').unwrap();
        let expected = Destination::Passing(dialect, yields);
        assert_eq!(to(method.parse().unwrap(), path, None), expected, "{line}");
    }
    let decision = to(Method::POST, "/tallygate/v1/reserve", None);
    assert_eq!(decision, Destination::Decision);
}

#[test]
fn anthropics_clients_are_known_by_their_header() {
    let to = |method, path| to(method, path, Some("anthropic-version"));
    let passing = |yields| Destination::Passing(Dialect::Anthropic, yields);
    assert_eq!(to(Method::GET, "/v1/models"), passing(Yields::Nothing));
    let batch = to(Method::POST, "/v1/messages/batches");
    assert_eq!(batch, passing(Yields::Anything));
    let nowhere = Destination::Unknown(Dialect::Anthropic, None);
    assert_eq!(to(Method::GET, "/v2/x"), nowhere);
}

#[test]
fn what_leads_elsewhere_is_unknown() {
    for path in ["/", "/v1/../../other/account", "/v1/%2e%2e/admin"] {
        let expected = Destination::Unknown(Dialect::OpenAi, None);
        assert_eq!(to(Method::GET, path, None), expected, "{path}");
    }
}

#[test]
fn what_a_provider_might_take_for_a_sized_call_is_told_how_to_write_it() {
    for (method, path) in [
        (Method::POST, "/v1/chat/completions/"),
        (Method::GET, "/v1/chat/completions/"),
        (Method::POST, "/v1//chat/completions"),
        (Method::POST, "/v1/Chat/completions"),
        (Method::POST, "/v1/%63hat/completions"),
        (Method::POST, "/v1/files/../chat/completions"),
        (Method::POST, "/v1/v1/chat/completions"),
        (Method::POST, "/v1/chat/completions%3fx"),
        (Method::PUT, "/v1/chat/completions"),
    ] {
        let expected = Destination::Unknown(Dialect::OpenAi, Some("POST /v1/chat/completions"));
        assert_eq!(to(method, path, None), expected, "{path}");
    }
    for path in [
        "/v1beta/models/gemini-2.5-pr%6F:generateContent",
        "/v1beta/models/gemini-2.5-pro%3AgenerateContent",
        "/v1beta//models/gemini-2.5-pro:generateContent",
        "/v1beta/models/x%2Fgemini-2.5-pro:generateContent",
        "/v1beta/models/x/gemini-2.5-pro:generateContent",
        "/v1beta/models/;gemini-2.5-pro:generateContent",
        "/v1beta/models/gemini-2.5-pro:generatecontent",
        "/v1beta/tunedModels/x/y:generateContent",
        "/v1beta/dynamic/x:generateContent",
    ] {
        let meant = "POST /v1beta/models/{model}:generateContent";
        let expected = Destination::Unknown(Dialect::Gemini, Some(meant));
        assert_eq!(to(Method::POST, path, None), expected, "{path}");
    }
}
