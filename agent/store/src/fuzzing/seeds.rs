//! What mutation begins with: everything that a real store holds, by the reader that it is for.

use std::path::Path;

use crate::pack::{PackId, RECORD_LENGTH, RecordHeader, scan_records, unpack};

/// The name of a target, and an input for it.
pub type Seed = (&'static str, Vec<u8>);

const STAGED: &str = r#"{"format":1,"name":".rfs-7","roots":{"0":{"path":"/srv/site","above":2,"made":["/srv"]}},
"yards":[{"place":{"beside":0},"inode":5},{"place":{"within":[0,"vol"]},"inode":6}],"swaps":[
{"at":[0,"a"],"slot":[0,1],"kind":{"create":{"ready":[9,33188,1,0,0,false]}}},
{"at":[0,"b%0A"],"slot":[0,2],"kind":{"replace":{"ready":[9,33188,1,0,0,true],"displaced":[3,16877,0,[1,2],[3,4],"00000000000000000000000000000000000000000000000000000000000000ff"]}}},
{"at":[0,"c/d"],"slot":[1,3],"kind":{"delete":{"displaced":[3,33188,7,[-1,2],[3,4],null]}}}],
"adjusts":[{"at":[0,"e"],"inode":4,"ctime":[1,2],"old":{"mode":420,"uid":0,"gid":0,"mtime_seconds":0,"mtime_nanos":0},
"new":{"mode":493,"uid":1,"gid":1,"mtime_seconds":-9,"mtime_nanos":7,"xattrs":[["user.a","1%00"]]}}],
"folders":[{"at":[0,""],"old":[1,2],"new":[3,4]}]}"#;

/// Seeds for every target, from the files of a store.
pub fn seeds(store: &Path) -> std::io::Result<Vec<Seed>> {
    let mut seeds: Vec<Seed> = vec![
        ("staged", STAGED.into()),
        ("yards", br#"[{"root":"/srv","path":"vol/a"}]"#.to_vec()),
        (
            "yards",
            br#"{"format":1,"yards":[{"root":"/srv","path":"vol/a"},{"root":"/","path":""}]}"#.to_vec(),
        ),
        ("text", "käse%0A%FF/b".into()),
        ("text", b"a\xffb\n".to_vec()),
        ("names", b"00000000000000ff.pack".to_vec()),
        ("names", b"fffffffffffffffe.part".to_vec()),
        ("names", b".rfs-7-site".to_vec()),
        ("names", "0123456789abcdef".repeat(4).into()),
        ("marks", br#"{"pinned":"why"}"#.to_vec()),
    ];
    for (target, folder) in
        [("manifest", "snapshots"), ("marks", "marks"), ("cache", "cache"), ("pack", "packs")]
    {
        for entry in std::fs::read_dir(store.join(folder))? {
            seeds.push((target, std::fs::read(entry?.path())?));
        }
    }
    for (target, file) in [("format", "format"), ("index", "index"), ("journal", "journal.sqlite")] {
        seeds.push((target, std::fs::read(store.join(file))?));
    }
    for entry in std::fs::read_dir(store.join("packs"))? {
        objects(&entry?.path(), &mut seeds)?;
    }
    Ok(seeds)
}

/// The records of a pack, and the content of those that make up trees.
fn objects(path: &Path, seeds: &mut Vec<Seed>) -> std::io::Result<()> {
    let bytes = std::fs::read(path)?;
    let mut content = Vec::new();
    for (_, location) in scan_records(path, PackId(0)).map_err(std::io::Error::other)? {
        let record = &bytes[location.offset as usize..location.end() as usize];
        seeds.push(("record", record.to_vec()));
        let Some((head, payload)) = record.split_first_chunk::<RECORD_LENGTH>() else { continue };
        let Ok((header, _)) = RecordHeader::decode(head) else { continue };
        if unpack(&header, payload, &mut content).is_err() {
            continue;
        }
        match content.get(..4) {
            Some(b"rfsT") => seeds.push(("list", content.clone())),
            Some(b"rfsS") => seeds.extend([("segment", content.clone()), ("tree", content.clone())]),
            _ => {}
        }
    }
    Ok(())
}
