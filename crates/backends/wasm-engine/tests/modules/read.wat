;; Writes what is in the file that its second argument names, or in `note`.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read"
    (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 512) "note")
  (func $length (param $at i32) (result i32) (local $len i32)
    (loop $more
      (if (i32.load8_u (i32.add (local.get $at) (local.get $len)))
        (then
          (local.set $len (i32.add (local.get $len) (i32.const 1)))
          (br $more))))
    (local.get $len))
  ;; The root is descriptor 3, and the directory 4.
  (func (export "_start") (local $from i32) (local $name i32)
    (local.set $from (i32.const 4))
    (local.set $name (i32.const 512))
    (drop (call $sizes (i32.const 0) (i32.const 4)))
    (drop (call $get (i32.const 16) (i32.const 1024)))
    (if (i32.gt_u (i32.load (i32.const 0)) (i32.const 1))
      (then
        (local.set $from (i32.const 3))
        ;; Without the slash that it begins with.
        (local.set $name (i32.add (i32.load (i32.const 20)) (i32.const 1)))))
    (call $check
      (call $open
        (local.get $from) (i32.const 0) (local.get $name) (call $length (local.get $name))
        (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 8)))
    (i32.store (i32.const 0) (i32.const 2048))
    (i32.store (i32.const 4) (i32.const 4096))
    (call $check (call $fd_read (i32.load (i32.const 8)) (i32.const 0) (i32.const 1) (i32.const 12)))
    (i32.store (i32.const 4) (i32.load (i32.const 12)))
    (call $check (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12))))
  (func $check (param $error i32)
    (if (local.get $error) (then (call $exit (local.get $error))))))
