//! nginx as a plain proxy: one worker, no logs, connections kept alive on both sides.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::Outcome;
use super::proc::Process;

pub(super) struct Nginx {
    pub(super) process: Process,
    pub(super) address: String,
}

pub(super) fn start(folder: &Path, upstream: &str) -> Outcome<Nginx> {
    // nginx cannot be told to take any free port, so one is taken and given back for it.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let config = folder.join("nginx.conf");
    std::fs::write(
        &config,
        configuration(folder, port, upstream.trim_start_matches("http://")),
    )?;
    let mut command = Command::new(if Path::new("/usr/sbin/nginx").exists() {
        "/usr/sbin/nginx"
    } else {
        "nginx"
    });
    command
        .arg("-p")
        .arg(folder)
        .arg("-c")
        .arg(&config)
        .args(["-e", "stderr"]);
    let mut process = Process::start(&mut command)?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if !process.is_running() || Instant::now() > deadline {
            return Err("nginx did not start".into());
        }
        std::thread::yield_now();
    }
    Ok(Nginx {
        process,
        address: format!("http://127.0.0.1:{port}"),
    })
}

fn configuration(folder: &Path, port: u16, upstream: &str) -> String {
    format!(
        "daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  error_log stderr crit;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000;
  upstream provider {{ server {upstream}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://provider;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_buffering off;
    }}
  }}
}}
",
        folder = folder.display(),
    )
}
