//go:build tools

// Package tools pins what tells autoscalers how busy pods are.
package tools

import _ "sigs.k8s.io/metrics-server/cmd/metrics-server"
