;; Writes its arguments, its name first, each with a NUL behind it.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get"
    (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get"
    (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  ;; The piece at 0, how many there are at 8, where each is from 1024, and all of them from 65536.
  (memory (export "memory") 8)
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 65536))
    (drop (call $args_sizes_get (i32.const 8) (i32.const 4)))
    (drop (call $args_get (i32.const 1024) (i32.const 65536)))
    (block $done
      (loop $more
        (br_if $done (i32.eqz (i32.load (i32.const 4))))
        (br_if $done (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
        (i32.store (i32.const 4) (i32.sub (i32.load (i32.const 4)) (i32.load (i32.const 12))))
        (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.load (i32.const 12))))
        (br $more)))))
