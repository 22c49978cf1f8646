package deps

import (
	_ "github.com/google/nftables"
	_ "github.com/google/nftables/expr"
	_ "github.com/google/nftables/binaryutil"
)
