;; Copies its input to its output, and if it has an argument to its error as well. Exit status 1
;; says that reading failed, 2 that writing did.
(module
  (import "wasi_snapshot_preview1" "fd_read"
    (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get"
    (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  ;; The piece at 0, how much was done at 8, how many arguments at 16, and 64 KiB from 1024.
  (memory (export "memory") 2)
  (func $write_all (param $stream i32) (param $size i32)
    (i32.store (i32.const 0) (i32.const 1024))
    (block $done
      (loop $more
        (br_if $done (i32.eqz (local.get $size)))
        (i32.store (i32.const 4) (local.get $size))
        (if (call $fd_write (local.get $stream) (i32.const 0) (i32.const 1) (i32.const 8))
          (then (call $proc_exit (i32.const 2))))
        (local.set $size (i32.sub (local.get $size) (i32.load (i32.const 8))))
        (i32.store (i32.const 0)
          (i32.add (i32.load (i32.const 0)) (i32.load (i32.const 8))))
        (br $more))))
  (func (export "_start") (local $size i32)
    (drop (call $args_sizes_get (i32.const 16) (i32.const 20)))
    (block $done
      (loop $more
        (i32.store (i32.const 0) (i32.const 1024))
        (i32.store (i32.const 4) (i32.const 65536))
        (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8))
          (then (call $proc_exit (i32.const 1))))
        (local.set $size (i32.load (i32.const 8)))
        (br_if $done (i32.eqz (local.get $size)))
        (call $write_all (i32.const 1) (local.get $size))
        (if (i32.gt_u (i32.load (i32.const 16)) (i32.const 1))
          (then (call $write_all (i32.const 2) (local.get $size))))
        (br $more)))))
