//! Tells stories side by side that mostly wait: a suite then takes as long as its longest one, on however few cores.

use std::thread;

/// A story: what it shows, as a sentence, and the story itself.
pub type Story = (&'static str, fn());

/// Tells all stories at once, and fails with the names of those that failed. `RFS_STORY=text` tells only those whose name holds
/// the text.
pub fn side_by_side(stories: &[Story]) {
    let only = std::env::var("RFS_STORY").unwrap_or_default();
    let told: Vec<_> = stories
        .iter()
        .filter(|(name, _)| name.contains(&only))
        .map(|&(name, story)| {
            let thread = thread::Builder::new().name(name.to_owned());
            (name, thread.spawn(story).expect("a thread can be started"))
        })
        .collect();
    let failed: Vec<_> =
        told.into_iter().filter_map(|(name, thread)| thread.join().err().map(|_| name)).collect();
    assert!(failed.is_empty(), "failed: {}", failed.join("; "));
}
