//! The format on disk, so that a reader of it can be written without a look at this program.
//!
//! This is **format 1** of a store. Every number has the meaning that it has here, for ever: what changes it gets another
//! number, and an older program then refuses the store instead of guessing. `tests/golden` holds stores that later
//! programs must read, `fuzz` the readers under hostile bytes.
//!
//! # The folder
//!
//! ```text
//! format                     which format this is
//! lock                       empty; held (flock, exclusive) by the one process that writes
//! packs/NNNNNNNNNNNNNNNN.pack    objects: contents of files, segments, lists; the name is the pack's number, 16 hex digits
//! snapshots/DIGEST           a manifest; the name is the BLAKE3 of its bytes, 64 hex digits, and the snapshot's id
//! marks/DIGEST               pins, uses and proof of that snapshot; none: it has none
//! index                      where each object is; may be missing
//! cache/NAME                 what each file of a root was when it was scanned last; may be missing
//! clones/NAME                a large file as it was captured, which shares its blocks; may be missing (see below)
//! quarantine/N….pack         packs that were found damaged and set aside; nothing reads them
//! journal.sqlite             what the host was asked, what it was about to do, what it answered (with -wal and -shm)
//! journal.ballast            1 MiB of zeros, given up when the disk is full; nothing reads it
//! *.part                     a file in the making, which a crash left; removed when the store is opened for writing
//! ```
//! Names that are none of these mean nothing here and are left alone, such as the agent's socket, scratch folder and note of
//! the program that it runs. Files are for their owner alone (mode 600, folders 700).
//!
//! A snapshot is found by its name, an object by its digest:
//!
//! ```text
//! snapshots/ID ─▶ components ─┬▶ tree:  list ─▶ segments ─▶ entries ─▶ extents ─▶ objects
//!                             └▶ value: objects, one after another
//! ```
//!
//! # What every part is made of
//!
//! - Digests are BLAKE3, 32 bytes; as text, 64 lower-case hex digits. CRCs are CRC-32 (IEEE). Fixed numbers (`u32`, `u64`)
//!   are little-endian.
//! - A *number* in a list, a segment or a cache is LEB128: seven bits a byte, the lowest first, the highest bit set in all
//!   bytes but the last. A *signed* number is zigzag first (0, -1, 1, -2, … are 0, 1, 2, 3, …). *Bytes* are a number, their
//!   length, and themselves. A number has its shortest form and is below 2^64; a reader refuses any other, so that equal
//!   values have equal bytes.
//! - Text that stands for bytes (in JSON) is UTF-8 as it is, with `%`, control characters and whatever is not UTF-8 as `%`
//!   and two hex digits.
//!
//! # Clones
//!
//! A file of 8 MiB or more may have a clone (`FICLONE`), which a reader may take content from, if that has its digest. Its
//! name is the BLAKE3 of the file's extents: for each its digest, zeros for a hole, and its length as a u64. It may hold
//! something else, be cut short or be absent; everything is in the packs too.
//!
//! # `format`
//!
//! `rfs-store 1` and a line feed. Another number: a newer program's, and nothing in the folder is to be touched. A folder
//! that has no such file and is not empty is no store.
//!
//! # Packs
//!
//! ```text
//! header    8  "RFSPACK\0"
//!           4  version, 1
//!           8  number of the pack: the same as in its name
//!           4  CRC of the 20 bytes before
//! record*   4  "rfsO"
//!           1  encoding: 0 as it is, 1 zstd (one or more frames)
//!           3  zeros
//!           4  raw length: of the content, at most 32 MiB
//!           4  stored length: of the payload; not more than the raw length, and the same where it is as it is
//!          32  digest of the content
//!           4  CRC of the 48 bytes before and the payload
//!           …  payload
//! footer*  32  digest                        one for each record, in the same order
//!           4  offset of its record in the pack
//!           4  stored length
//!           4  raw length
//! trailer   4  how many there are
//!          32  BLAKE3 of the number of the pack (8 bytes), the footer and the count
//!           8  "RFSFOOT\0"
//! ```
//! Records follow one another without a gap from byte 24, and the footer follows the last of them. Where header, footer or
//! trailer are wrong, the records are still good: from byte 24 on, one begins wherever "rfsO" stands with lengths that can
//! be and a CRC that is right, and the next follows it; after anything else, it is looked for at the next byte.
//!
//! A reader compares the digest of the content with the one it asked for, always. One object may stand in several packs;
//! any copy with that digest is as good, and this program prefers the pack with the highest number. Numbers are not used
//! again while a pack has them; 2^64 − 1 is none.
//!
//! # Manifests
//!
//! JSON in UTF-8 (this program writes it indented, with a line feed at its end), no field but these:
//!
//! ```text
//! format      1
//! sequence    counts the snapshots of the store from 1 as they were committed, whatever the clock did
//! host        the host's name
//! taken_at    milliseconds since 1970 UTC
//! label       why it was taken, for people
//! operation   the fleet operation that it belongs to, a UUID; may be left out
//! components  { NAME: { kind: "files" | "services",
//!                       entries: how many files, folders, links and nodes; 0 for a value
//!                       size: bytes of content, each inode counted once
//!                       content: { "tree": DIGEST } or { "value": [DIGEST, …] }
//!                       notes: sentences for whoever trusts the snapshot; may be left out
//!                       taken: what files were captured with; may be left out, as older snapshots do:
//!                         { exclude: [PATTERN, …]
//!                           roots: [ { path: TEXT
//!                                      state: "absent" | "empty" | "folder" | "file" | { "link": TEXT }
//!                                      file_system: { kind, mounted_at: TEXT, number }; where nothing stood, of the folder above
//!                                      mounts: [ { path: TEXT, kind, taken_in: whether its content was captured }, … ]
//!                                      subvolumes: [TEXT, …]: btrfs subvolumes whose content was captured
//!                                      behind: the link among the roots through which it was found
//!                                      way: [ { path: TEXT, to: TEXT }, … ]: the links above it that led there } ] } } }
//! ```
//! A snapshot is there once its manifest is; it is gone when that is removed.
//!
//! # Trees
//!
//! A tree is one object, its *list*, that names its *segments*, each an object of some entries (the digest covers all, so
//! there is no other checksum).
//!
//! ```text
//! list      "rfsT" 1   number: roots, each:
//!             bytes    its absolute path; roots are in the order of their paths
//!             number   segments, each:   32 digest   number: entries   number: length of the segment
//! segment   "rfsS" 1   number: entries, each:
//!             number   how many bytes its path shares with the one before it in this segment, as many as possible
//!             bytes    the rest of its path beneath the root; the root itself is the empty path and comes first
//!             1        kind: 1 folder, 2 file, 3 file with a link number, 4 symbolic link, 5 pipe, 6 socket,
//!                      7 character device, 8 block device
//!             numbers  mode (at most 0o7777)  user  group
//!             signed   seconds of its modification time;  number: nanoseconds (below 10^9)
//!             number   extended attributes, each: bytes: name  bytes: value; in the order of their names
//!             …        file: number: link (kind 3 alone)  number: size  number: extents, each:
//!                          number: its length, doubled, and one more for a hole;  32 digest, unless it is a hole
//!                      symbolic link: bytes: where it points;  device: numbers: major  minor
//! ```
//! Entries are in the order of their paths as bytes, over all segments of a root; a folder comes before what is in it, and
//! whoever restores a tree refuses it where that is not so. Attributes that XFS shows twice (`trusted.SGI_ACL_…`) may stand in
//! older trees, and are passed over. The attribute
//! `inode.flags` stands for the flags that `chattr` sets, its value for their letters in the order of their codes. A path is names of 1 to 255 bytes with `/` between them, none of them `.` or `..`, none with a zero byte. No extent is
//! empty, none of data is longer than an object may be, and together they are as long as the file, which is below 2^63. Files of a component with the same link number are one inode. The
//! whole paths of a segment are together at most 2 MiB longer than the segment.
//!
//! Which entries share a segment means nothing to a reader. This program ends one after an entry where FNV-1a (64 bits) of
//! its path, xored with itself shifted right by 32, is a multiple of 64, after 512 entries, or when it has grown to about
//! 1 MiB, so that equal trees are equal objects. A file of at most 2 MiB is one object; a longer one is cut by its content
//! (FastCDC, 128 KiB to 2 MiB). A value is cut every 2 MiB. None of that binds a reader either.
//!
//! # Marks
//!
//! ```text
//! rfs-marks 1 SNAPSHOT
//! {"pinned":WHY,"in_use":{WHO:WHY,…},"proof":{"verified_at":MILLISECONDS,"restore_millis":N}}
//! DIGEST of both lines with their ends
//! ```
//! Fields that say nothing are left out; others than these are refused. The form before it was versioned is read: the
//! second line, and the digest of it without its end. A snapshot whose marks cannot be read counts as in use.
//!
//! # Index
//!
//! ```text
//! "rfsX" 1   u32: packs, each: u64 number, u64 length in bytes
//! record*    32 digest  u32 position of its pack in that list  u32 offset  u32 stored length  u32 raw length
//! 32         BLAKE3 of all before
//! ```
//! Records are in the order of digest, then of the pack's number. It speaks for those listed packs that still have that
//! length; the footers of all others are read. It is only a shortcut: where it is missing, damaged or of another version,
//! all footers are.
//!
//! # Cache
//!
//! Named by the first 32 hex digits of the BLAKE3 of the root's path.
//!
//! ```text
//! "rfsC" 1  bytes: root  u64 file system  u64 where the root's child stands  u64 groups  u64 where each group stands
//! group     attributes of the folder (as in a segment)  number: children, each:
//! child     bytes: name  1 flags (1: too young to trust)  65 state  then
//!             folder: u32 number of its group     else: u32 length, attributes, and the extents or the link's target
//! state     1 kind (1 folder, 2 file, 3 link, 4 pipe, 5 socket, 6 character device, 7 block device)  u32 mode  u32 user
//!           u32 group  u64 size  u64 inode  u32 names  mtime and ctime, each: i64 seconds, u32 nanoseconds
//!           u32 major  u32 minor
//! 32        BLAKE3 of all before
//! ```
//! It names content and holds none. One that is missing, damaged, of another version, of another root or of another file
//! system is as good as none, and costs a scan that reads every file.
//!
//! # Journal
//!
//! An SQLite file: `application_id` 0x52465371, `user_version` 2, tables as [`journal`](crate::journal)'s schema makes them.
//! The number in `sqlite_sequence` is that of the newest row. Each row has a seal, the first 16 bytes of the BLAKE3 of: the table's name and the row's other columns in their order,
//! each as a byte (0 null, 1 integer, 2 text), its length (`u64`), and its bytes (integers: 8, little-endian). Version 1 has
//! no seals, and is brought up when it is opened for writing. Bodies are JSON of whoever wrote them. A staged restore
//! (in the table `fact`) has a `format` of its own, 1, and is refused as a whole when a path in it leads outside of its
//! roots; the list of further staging folders beside live files (`.rfs-…/yards`) has one too. Where either has none, it is
//! the first.
//!
//! # What is durable when
//!
//! | step | order |
//! |---|---|
//! | a snapshot | packs are written as `.part` and synced; renamed; `packs` synced; the manifest written as `.part`, synced, renamed; `snapshots` synced. Only then is it reported. |
//! | marks, `format` | written as `.part`, synced, renamed, the folder synced |
//! | forgetting | the manifest is removed, then its marks; the folder is synced |
//! | collecting | what is needed of a sparse pack is durable in a new one; then the index is removed, then the old packs |
//! | the journal | with each transaction (WAL, `synchronous` FULL) |
//! | index, cache | never: their checksum tells one that a crash cut short |
//! | clones | never: what is taken from one is digested |
//!
//! So an interrupted step leaves a `.part`, or packs that nothing needs; both are removed later.
//!
//! # What can be made anew
//!
//! | lost or damaged | from what | without it |
//! |---|---|---|
//! | `index`, `cache/*`, `clones/*`, `lock`, `journal.ballast` | packs, live files, packs, nothing, nothing | nothing but time |
//! | a pack's header or footer | its records | nothing |
//! | an object | another pack; else live files with that digest (`repair`) | the snapshots that name it are not whole |
//! | a manifest | – | that snapshot is gone; that there was one, nothing says |
//! | marks, when damaged | – | the snapshot counts as in use; when missing: as without pins, uses and proof |
//! | `format` | by hand, when everything else is there | the folder is refused |
//! | the journal | – | when damaged, what is damaged is not acted upon; when missing, the host has never been asked anything |
//!
//! # Other versions
//!
//! - A newer program reads this format, for as long as golden stores of it are kept. It may bring up what only it writes
//!   (the journal), in one transaction.
//! - An older program refuses a newer `format` and a newer journal by name, and changes nothing. It takes a newer index or
//!   cache for none, marks of a newer version for damaged (so that the snapshot is kept), and a newer manifest or pack for
//!   damaged. So whoever changes manifests, packs, lists or segments in a way that an older program cannot read, also
//!   changes the number in `format`.
//!
//! # Limits that a reader may rely on
//!
//! No object is longer than 32 MiB. Reading never takes more memory than a small multiple of what is read and one object:
//! the bounds stand in the table of fuzz targets, and are asserted there.
