//go:build tools

// Package tools pins what plays nodes and pods.
package tools

import _ "sigs.k8s.io/kwok/cmd/kwok"
