//go:build tools

// Package tools pins the cluster's name server.
package tools

import _ "github.com/coredns/coredns"
