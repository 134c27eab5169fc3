;; Traps in functions with names: its own, one that a compiler has made, and none.
(module $app
  (func $innermost (unreachable))
  (func $_ZN3app5inner17h0123456789abcdefE (call $innermost))
  (func (call $_ZN3app5inner17h0123456789abcdefE))
  (func (export "_start") (call 2)))
