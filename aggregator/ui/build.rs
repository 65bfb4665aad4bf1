//! Embeds `web/dist/page` when the page was built, else sets `unbuilt`: what says how to build it is served. Never runs npm.

use std::path::Path;

/// Where `npm run build` writes.
const PAGE: &str = "web/dist/page";

fn main() {
    println!("cargo::rustc-check-cfg=cfg(unbuilt)");
    println!("cargo::rerun-if-env-changed=REQUIRE_UI");
    // The directory above exists without a build: a watched path that is absent would make every build start here.
    println!("cargo::rerun-if-changed=web/dist");
    let built = Path::new(PAGE).join("index.html").is_file();
    let required = std::env::var_os("REQUIRE_UI").is_some_and(|value| value == "1");
    if built {
        memory_serve::load_directory(PAGE);
    } else if required {
        println!("cargo::error=REQUIRE_UI=1, but the page is not built: npm ci && npm run build, in aggregator/ui/web");
    } else {
        println!("cargo::warning=embedding a placeholder: for the page, npm ci && npm run build, in aggregator/ui/web");
        println!("cargo::rustc-cfg=unbuilt");
    }
}
