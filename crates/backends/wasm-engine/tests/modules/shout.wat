;; Writes for ever, or until it can't.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 2)
  (func $write (result i32)
    (i32.store (i32.const 0) (i32.const 1024))
    (i32.store (i32.const 4) (i32.const 65536))
    (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
  ;; Its exit status is the error's number.
  (func (export "_start") (local $error i32)
    (loop $more
      (local.set $error (call $write))
      (br_if $more (i32.eqz (local.get $error))))
    (call $exit (local.get $error)))
  ;; Writes so many times 64 KiB.
  (func (export "shout") (param $times i32)
    (loop $more
      (drop (call $write))
      (local.set $times (i32.sub (local.get $times) (i32.const 1)))
      (br_if $more (local.get $times)))))
