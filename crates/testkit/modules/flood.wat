;; Writes 1600 blocks of 64 KiB, which are 100 MiB: in each its number, from 0, in four bytes, and
;; else bytes of 165. Exit status 3 says that writing failed.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  ;; The piece at 0, how much was done at 8, and the block from 1024.
  (memory (export "memory") 2)
  (func (export "_start") (local $number i32)
    (memory.fill (i32.const 1024) (i32.const 165) (i32.const 65536))
    (loop $block
      (i32.store (i32.const 1024) (local.get $number))
      (i32.store (i32.const 0) (i32.const 1024))
      (i32.store (i32.const 4) (i32.const 65536))
      (loop $rest
        (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
          (then (call $proc_exit (i32.const 3))))
        (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.load (i32.const 8))))
        (i32.store (i32.const 4) (i32.sub (i32.load (i32.const 4)) (i32.load (i32.const 8))))
        (br_if $rest (i32.load (i32.const 4))))
      (local.set $number (i32.add (local.get $number) (i32.const 1)))
      (br_if $block (i32.lt_u (local.get $number) (i32.const 1600))))))
