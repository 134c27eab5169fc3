;; Grows its memory page by page until that is refused, and says how many pages it has then. With
;; the word "use" it has written to each, and with "trap" it traps in the end besides.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get"
    (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func $say (param $number i32) (local $at i32)
    ;; The digits stand before a line's end at 63.
    (local.set $at (i32.const 63))
    (i32.store8 (local.get $at) (i32.const 10))
    (loop $digit
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (i32.store8 (local.get $at)
        (i32.add (i32.rem_u (local.get $number) (i32.const 10)) (i32.const 48)))
      (local.set $number (i32.div_u (local.get $number) (i32.const 10)))
      (br_if $digit (local.get $number)))
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (i32.sub (i32.const 64) (local.get $at)))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func (export "_start") (local $page i32) (local $word i32)
    (drop (call $args_sizes_get (i32.const 0) (i32.const 4)))
    (if (i32.gt_u (i32.load (i32.const 0)) (i32.const 1))
      (then
        (drop (call $args_get (i32.const 128) (i32.const 1024)))
        (local.set $word (i32.load8_u (i32.load (i32.const 132))))))
    (loop $more
      (local.set $page (memory.grow (i32.const 1)))
      (if (i32.ne (local.get $page) (i32.const -1))
        (then
          (if (local.get $word)
            (then (call $use (i32.mul (local.get $page) (i32.const 65536)))))
          (br $more))))
    (if (i32.eq (local.get $word) (i32.const 0x74 (; t ;))) (then (unreachable)))
    (call $say (memory.size)))
  ;; Writes to each part of a page that the machine might have to give by itself.
  (func $use (param $page i32) (local $at i32)
    (loop $part
      (i32.store (i32.add (local.get $page) (local.get $at)) (i32.const 1))
      (local.set $at (i32.add (local.get $at) (i32.const 4096)))
      (br_if $part (i32.lt_u (local.get $at) (i32.const 65536))))))
