;; Does with files what its arguments say, each time a word, by its first letter, and a path:
;;   read PATH           writes what is in it to the output
;;   write PATH TEXT     makes it, or makes it anew
;;   list PATH           writes the names in a directory, each on a line
;;   exists PATH         says that it is "there"
;;   mkdir PATH          makes a directory
;;   unlink PATH         takes it away
;;   symlink PATH TO     makes a link that leads there
;;   name PATH TO        gives it another name
;;   input -             waits for the end of the input
;; What fails says "errno" and the number, with "open" on a line before if it could be opened, and
;; what follows is tried all the same.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get"
    (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get"
    (func $fd_prestat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_dir_name"
    (func $fd_prestat_dir_name (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read"
    (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_readdir"
    (func $fd_readdir (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_filestat_get"
    (func $path_filestat_get (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_create_directory"
    (func $path_create_directory (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file"
    (func $path_unlink_file (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_symlink"
    (func $path_symlink (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_rename"
    (func $path_rename (param i32 i32 i32 i32 i32 i32) (result i32)))

  ;; 0: a piece for reading and writing; 8: how much was done; 12: what was opened; 16: about a
  ;; directory that is open from the start, whose name comes to 256; 512: words to say; 600: where
  ;; digits are made; 640: about a file; 760: nothing; 1024: where each argument is; 4096: the arguments;
  ;; 32768: what is read.
  (memory (export "memory") 1)
  (data (i32.const 512) "errno there\nopen\n")
  (data (i32.const 631) "\n")

  ;; The directories that are open from the start: the root, and the current one.
  (global $root (mut i32) (i32.const -1))
  (global $here (mut i32) (i32.const -1))
  ;; The path that is worked on, as seen from one of them.
  (global $from (mut i32) (i32.const 0))
  (global $path (mut i32) (i32.const 0))
  (global $size (mut i32) (i32.const 0))

  (func $length (param $text i32) (result i32) (local $end i32)
    (local.set $end (local.get $text))
    (block $done
      (loop $more
        (br_if $done (i32.eqz (i32.load8_u (local.get $end))))
        (local.set $end (i32.add (local.get $end) (i32.const 1)))
        (br $more)))
    (i32.sub (local.get $end) (local.get $text)))

  (func $write (param $to i32) (param $at i32) (param $size i32) (result i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $size))
    (call $fd_write (local.get $to) (i32.const 0) (i32.const 1) (i32.const 8)))

  (func $say (param $at i32) (param $size i32)
    (drop (call $write (i32.const 1) (local.get $at) (local.get $size))))

  ;; Says why something failed, if it did.
  (func $judge (param $errno i32) (local $at i32)
    (if (i32.eqz (local.get $errno)) (then (return)))
    (call $say (i32.const 512) (i32.const 6))
    (local.set $at (i32.const 631))
    (loop $digit
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (i32.store8 (local.get $at)
        (i32.add (i32.rem_u (local.get $errno) (i32.const 10)) (i32.const 48)))
      (local.set $errno (i32.div_u (local.get $errno) (i32.const 10)))
      (br_if $digit (local.get $errno)))
    (call $say (local.get $at) (i32.sub (i32.const 632) (local.get $at))))

  ;; The same of what is open.
  (func $judge_open (param $errno i32)
    (if (local.get $errno) (then (call $say (i32.const 524) (i32.const 5))))
    (call $judge (local.get $errno)))

  (func $find_directories (local $fd i32)
    (local.set $fd (i32.const 3))
    (block $done
      (loop $next
        (br_if $done (call $fd_prestat_get (local.get $fd) (i32.const 16)))
        (drop (call $fd_prestat_dir_name (local.get $fd) (i32.const 256)
          (i32.load (i32.const 20))))
        (if (i32.eq (i32.load (i32.const 20)) (i32.const 1))
          (then
            (if (i32.eq (i32.load8_u (i32.const 256)) (i32.const 0x2f (; / ;)))
              (then (global.set $root (local.get $fd))))
            (if (i32.eq (i32.load8_u (i32.const 256)) (i32.const 0x2e (; . ;)))
              (then (global.set $here (local.get $fd))))))
        (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
        (br $next))))

  ;; Takes a path to work on: one with slashes before it is seen from the root.
  (func $take (param $path i32)
    (global.set $from (global.get $here))
    (block $done
      (loop $slash
        (br_if $done (i32.ne (i32.load8_u (local.get $path)) (i32.const 0x2f (; / ;))))
        (global.set $from (global.get $root))
        (local.set $path (i32.add (local.get $path) (i32.const 1)))
        (br $slash)))
    ;; The root itself.
    (if (i32.eqz (i32.load8_u (local.get $path)))
      (then
        (i32.store16 (i32.const 256) (i32.const 0x2e (; . ;)))
        (local.set $path (i32.const 256))))
    (global.set $path (local.get $path))
    (global.set $size (call $length (local.get $path))))

  ;; Opens the path, by flags and rights as WASI has them; links are followed.
  (func $open (param $flags i32) (param $rights i64) (result i32)
    (call $path_open
      (global.get $from) (i32.const 1) (global.get $path) (global.get $size)
      (local.get $flags) (local.get $rights) (i64.const 0) (i32.const 0) (i32.const 12)))

  ;; Reads to the end, and says it if that is wanted.
  (func $read_all (param $fd i32) (param $aloud i32) (local $errno i32)
    (block $done
      (loop $more
        (i32.store (i32.const 0) (i32.const 32768))
        (i32.store (i32.const 4) (i32.const 32768))
        (local.set $errno
          (call $fd_read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
        (call $judge_open (local.get $errno))
        (br_if $done (local.get $errno))
        (br_if $done (i32.eqz (i32.load (i32.const 8))))
        (if (local.get $aloud) (then (call $say (i32.const 32768) (i32.load (i32.const 8)))))
        (br $more))))

  (func $read (local $errno i32)
    (local.set $errno (call $open (i32.const 0) (i64.const 2)))
    (call $judge (local.get $errno))
    (if (local.get $errno) (then (return)))
    (call $read_all (i32.load (i32.const 12)) (i32.const 1))
    (drop (call $fd_close (i32.load (i32.const 12)))))

  (func $make (param $text i32) (local $errno i32)
    ;; It is made if it is not there, and emptied if it is.
    (local.set $errno (call $open (i32.const 9) (i64.const 64)))
    (call $judge (local.get $errno))
    (if (local.get $errno) (then (return)))
    (call $judge_open
      (call $write (i32.load (i32.const 12)) (local.get $text) (call $length (local.get $text))))
    (call $judge (call $fd_close (i32.load (i32.const 12)))))

  (func $list (local $errno i32) (local $next i64) (local $at i32) (local $end i32)
    (local.set $errno (call $open (i32.const 2) (i64.const 0x4000)))
    (call $judge (local.get $errno))
    (if (local.get $errno) (then (return)))
    (block $done
      (loop $more
        (local.set $errno
          (call $fd_readdir (i32.load (i32.const 12)) (i32.const 32768) (i32.const 32768)
            (local.get $next) (i32.const 8)))
        (call $judge (local.get $errno))
        (br_if $done (local.get $errno))
        (local.set $at (i32.const 32768))
        (local.set $end (i32.add (local.get $at) (i32.load (i32.const 8))))
        (block $cut
          (loop $entry
            (br_if $cut (i32.gt_u (i32.add (local.get $at) (i32.const 24)) (local.get $end)))
            (br_if $cut
              (i32.gt_u
                (i32.add (i32.add (local.get $at) (i32.const 24))
                  (i32.load offset=16 (local.get $at)))
                (local.get $end)))
            (call $name (i32.add (local.get $at) (i32.const 24))
              (i32.load offset=16 (local.get $at)))
            (local.set $next (i64.load (local.get $at)))
            (local.set $at
              (i32.add (i32.add (local.get $at) (i32.const 24))
                (i32.load offset=16 (local.get $at))))
            (br $entry)))
        ;; As long as it fills the room there may be more.
        (br_if $more (i32.eq (i32.load (i32.const 8)) (i32.const 32768)))))
    (drop (call $fd_close (i32.load (i32.const 12)))))

  ;; Says the name of an entry, unless it is that of the directory itself or the one above.
  (func $name (param $at i32) (param $size i32) (local $done i32)
    (if (i32.eq (i32.load8_u (local.get $at)) (i32.const 0x2e (; . ;)))
      (then
        (if (i32.eq (local.get $size) (i32.const 1)) (then (return)))
        (if (i32.and
              (i32.eq (local.get $size) (i32.const 2))
              (i32.eq (i32.load8_u offset=1 (local.get $at)) (i32.const 0x2e (; . ;))))
          (then (return)))))
    (local.set $done (i32.load (i32.const 8)))
    (call $say (local.get $at) (local.get $size))
    (call $say (i32.const 631) (i32.const 1))
    (i32.store (i32.const 8) (local.get $done)))

  (func $exists (local $errno i32)
    (local.set $errno
      (call $path_filestat_get (global.get $from) (i32.const 1)
        (global.get $path) (global.get $size) (i32.const 640)))
    (call $judge (local.get $errno))
    (if (i32.eqz (local.get $errno)) (then (call $say (i32.const 518) (i32.const 6)))))

  (func $rename (param $to i32) (local $from i32) (local $path i32) (local $size i32)
    (local.set $from (global.get $from))
    (local.set $path (global.get $path))
    (local.set $size (global.get $size))
    (call $take (local.get $to))
    (call $judge
      (call $path_rename (local.get $from) (local.get $path) (local.get $size)
        (global.get $from) (global.get $path) (global.get $size))))

  (func $argument (param $number i32) (result i32)
    (i32.load offset=1024 (i32.mul (local.get $number) (i32.const 4))))

  (func (export "_start") (local $number i32) (local $word i32) (local $third i32)
    (call $find_directories)
    (drop (call $args_sizes_get (i32.const 16) (i32.const 20)))
    (local.set $third (i32.load (i32.const 16)))
    (drop (call $args_get (i32.const 1024) (i32.const 4096)))
    ;; What is behind the last one is none, and empty.
    (i32.store offset=1024 (i32.mul (local.get $third) (i32.const 4)) (i32.const 760))
    (i32.store offset=1028 (i32.mul (local.get $third) (i32.const 4)) (i32.const 760))
    (local.set $number (i32.const 1))
    (block $done
      (loop $next
        (local.set $word (i32.load8_u (call $argument (local.get $number))))
        (br_if $done (i32.eqz (local.get $word)))
        (call $take (call $argument (i32.add (local.get $number) (i32.const 1))))
        (local.set $third (call $argument (i32.add (local.get $number) (i32.const 2))))
        (local.set $number (i32.add (local.get $number) (i32.const 2)))
        (if (i32.eq (local.get $word) (i32.const 0x72 (; r ;))) (then (call $read)))
        (if (i32.eq (local.get $word) (i32.const 0x6e (; n ;)))
          (then
            (call $rename (local.get $third))
            (local.set $number (i32.add (local.get $number) (i32.const 1)))))
        (if (i32.eq (local.get $word) (i32.const 0x77 (; w ;)))
          (then
            (call $make (local.get $third))
            (local.set $number (i32.add (local.get $number) (i32.const 1)))))
        (if (i32.eq (local.get $word) (i32.const 0x73 (; s ;)))
          (then
            (call $judge
              (call $path_symlink (local.get $third) (call $length (local.get $third))
                (global.get $from) (global.get $path) (global.get $size)))
            (local.set $number (i32.add (local.get $number) (i32.const 1)))))
        (if (i32.eq (local.get $word) (i32.const 0x6c (; l ;))) (then (call $list)))
        (if (i32.eq (local.get $word) (i32.const 0x65 (; e ;))) (then (call $exists)))
        (if (i32.eq (local.get $word) (i32.const 0x6d (; m ;)))
          (then
            (call $judge
              (call $path_create_directory
                (global.get $from) (global.get $path) (global.get $size)))))
        (if (i32.eq (local.get $word) (i32.const 0x75 (; u ;)))
          (then
            (call $judge
              (call $path_unlink_file (global.get $from) (global.get $path) (global.get $size)))))
        (if (i32.eq (local.get $word) (i32.const 0x69 (; i ;)))
          (then (call $read_all (i32.const 0) (i32.const 0))))
        (br $next)))))
