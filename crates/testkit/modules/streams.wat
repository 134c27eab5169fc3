;; Writes to the output and to the error by turns.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; Two pieces, each with where it is and how long it is.
  (data (i32.const 0) "\10\00\00\00\04\00\00\00" "\14\00\00\00\04\00\00\00" "out\n" "err\n")
  (func $say (param $stream i32) (param $piece i32)
    (drop (call $fd_write (local.get $stream) (local.get $piece) (i32.const 1) (i32.const 32))))
  (func (export "_start")
    (call $say (i32.const 1) (i32.const 0))
    (call $say (i32.const 2) (i32.const 8))
    (call $say (i32.const 1) (i32.const 0))
    (call $say (i32.const 2) (i32.const 8))))
