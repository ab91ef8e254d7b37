#!/usr/bin/env bash
# A real one-node Kubernetes in network, mount and process namespaces of its own, for tests. Needs root.
#
#   cluster.sh possible       says why this machine cannot have one, where it cannot
#   cluster.sh up             programs, node and name server; does nothing where it is up
#   cluster.sh exec CMD…      runs CMD in the cluster's network, with its kubectl and KUBECONFIG
#   cluster.sh import FILE…   puts docker-archives into the node's image store
#   cluster.sh logs FOLDER    copies the programs' logs
#   cluster.sh audit          prints the file in which the API server notes what pods ask for
#   cluster.sh down           ends everything and leaves nothing
#
# UNIMODEL_CLUSTER names it (default unimodel), so that there may be several.
# UNIMODEL_NODES=20 gives it no real node but so many that KWOK plays, and their pods: for work that only the API sees.
set -euo pipefail
SELF=$(realpath "$0")
HERE=$(dirname "$SELF")
NAME=${UNIMODEL_CLUSTER:-unimodel}
PLAYED=${UNIMODEL_NODES:-0}
STATE=/run/$NAME-cluster
NODE_IP=10.99.0.2
POD_CIDR=10.244.0.0/16
SERVICE_CIDR=10.96.0.0/16
DOMAIN=cluster.local
# Beside these, a node needs what packages() installs.
PACKAGES=(iproute2 openssl)
[ "$PLAYED" -gt 0 ] || PACKAGES+=(containerd runc containernetworking-plugins iptables conntrack)

die() {
    echo "error: $*" >&2
    exit 1
}

packages() {
    local missing=() package
    for package in "${PACKAGES[@]}"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    echo "Installing ${missing[*]} ..." >&2
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } \
        >"$STATE/apt.log" 2>&1 || die "could not install ${missing[*]}: $(tail -n 3 "$STATE/apt.log")"
}

issue() { # NAME SUBJECT CA [SUBJECT_ALTERNATIVE_NAMES]
    openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"
    openssl req -new -key "$1.key" -subj "$2" -out "$1.csr"
    openssl x509 -req -in "$1.csr" -CA "$3.crt" -CAkey "$3.key" -CAcreateserial -days 30 -out "$1.crt" 2>/dev/null \
        -extfile <(printf 'extendedKeyUsage=serverAuth,clientAuth\n%s' "${4:+subjectAltName=$4}")
}

certificates() {
    mkdir -p "$STATE/pki"
    cd "$STATE/pki"
    local ca user
    # The aggregation layer has a CA of its own: else any client could pose as the front proxy.
    for ca in ca front-proxy-ca; do
        openssl ecparam -name prime256v1 -genkey -noout -out $ca.key
        openssl req -x509 -new -key $ca.key -subj /CN=$ca -days 30 -out $ca.crt
    done
    openssl genrsa -out accounts.key 2048 2>/dev/null
    openssl rsa -in accounts.key -pubout -out accounts.pub 2>/dev/null
    issue apiserver /CN=kube-apiserver ca "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,\
DNS:kubernetes.default.svc,IP:127.0.0.1,IP:10.96.0.1,IP:$NODE_IP"
    issue front-proxy /CN=front-proxy front-proxy-ca
    issue admin /O=system:masters/CN=admin ca
    issue kubelet /O=system:nodes/CN=system:node:node1 ca "DNS:node1,IP:$NODE_IP"
    issue controllers /CN=system:kube-controller-manager ca
    issue scheduler /CN=system:kube-scheduler ca
    issue proxy /CN=system:kube-proxy ca
    issue dns /O=system:masters/CN=dns ca
    issue kwok /O=system:masters/CN=kwok ca
    for user in admin kubelet controllers scheduler proxy dns kwok; do
        cat >$user.kubeconfig <<Y
apiVersion: v1
kind: Config
clusters:
- {name: cluster, cluster: {server: "https://$NODE_IP:6443", certificate-authority: $STATE/pki/ca.crt}}
users:
- {name: user, user: {client-certificate: $STATE/pki/$user.crt, client-key: $STATE/pki/$user.key}}
contexts:
- {name: context, context: {cluster: cluster, user: user}}
current-context: context
Y
    done
}

configuration() {
    local pki=$STATE/pki
    mkdir -p "$STATE"/{log,etcd,containerd,kubelet,network}
    cat >"$STATE/containerd.toml" <<T
version = 2
root = "$STATE/containerd/root"
state = "$STATE/containerd/state"
[grpc]
  address = "$STATE/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:local"
  # Without it runc ends with "can't get final child's PID from pipe: EOF".
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$STATE/network"
T
    cat >"$STATE/network/10-bridge.conflist" <<C
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": "$STATE/addresses"}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
C
    cat >"$STATE/kubelet.yaml" <<K
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
cgroupRoot: /$NAME
cgroupsPerQOS: true
enforceNodeAllocatable: [none]
containerRuntimeEndpoint: unix://$STATE/containerd.sock
failSwapOn: false
evictionHard: {memory.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%"}
imageGCHighThresholdPercent: 100
localStorageCapacityIsolation: false
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $pki/ca.crt}}
authorization: {mode: Webhook}
clusterDNS: [$NODE_IP]
clusterDomain: $DOMAIN
resolvConf: $STATE/resolv.conf
tlsCertFile: $pki/kubelet.crt
tlsPrivateKeyFile: $pki/kubelet.key
podLogsDir: $STATE/podlogs
registerNode: true
syncFrequency: 10s
# Waits after a crash are a test's time.
crashLoopBackOff: {maxContainerRestartPeriod: 20s}
featureGates: {KubeletCrashLoopBackOffMax: true}
K
    # Nothing outside the cluster is to be found.
    echo "nameserver $NODE_IP" >"$STATE/resolv.conf"
    cat >"$STATE/Corefile" <<C
. {
    bind $NODE_IP
    kubernetes $DOMAIN in-addr.arpa {
        kubeconfig $pki/dns.kubeconfig
    }
    cache 5
    errors
}
C
    # Who asked the API server for what, of all pods: the requests of the operator are counted here.
    cat >"$STATE/audit.yaml" <<A
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, userGroups: ["system:serviceaccounts:kube-system"]}
- {level: Metadata, userGroups: ["system:serviceaccounts"]}
- {level: None}
A
}

start() { # PROGRAM ARGUMENT...
    "$@" >"log/$(basename "$1").log" 2>&1 &
}

node() { # Runs as the first process of the namespaces.
    cd "$STATE"
    local pki=$STATE/pki
    ip link set lo up
    ip link add eth0 type veth peer name eth0-peer
    ip address add $NODE_IP/24 dev eth0
    ip link set eth0 up
    ip link set eth0-peer up
    ip route add default dev eth0
    sysctl -qw net.ipv4.ip_forward=1
    mkdir -p /run/netns
    mount -t tmpfs tmpfs /run/netns
    start "$KUBERNETES/etcd" --data-dir etcd --listen-client-urls http://127.0.0.1:2379 \
        --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380 --unsafe-no-fsync
    [ "$PLAYED" -gt 0 ] || start containerd -c containerd.toml
    start "$KUBERNETES/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 --service-cluster-ip-range=$SERVICE_CIDR \
        --advertise-address=$NODE_IP --bind-address=0.0.0.0 --secure-port=6443 \
        --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
        --client-ca-file="$pki/ca.crt" --kubelet-client-certificate="$pki/admin.crt" \
        --kubelet-client-key="$pki/admin.key" --kubelet-preferred-address-types=InternalIP \
        --service-account-key-file="$pki/accounts.pub" --service-account-signing-key-file="$pki/accounts.key" \
        --service-account-issuer=https://kubernetes.default.svc \
        --requestheader-client-ca-file="$pki/front-proxy-ca.crt" --requestheader-allowed-names=front-proxy \
        --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
        --requestheader-extra-headers-prefix=X-Remote-Extra- \
        --proxy-client-cert-file="$pki/front-proxy.crt" --proxy-client-key-file="$pki/front-proxy.key" \
        --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true \
        --audit-policy-file=audit.yaml --audit-log-path="$STATE/log/audit.log"
    # Where nodes are played, controllers must not be what is waited for; where they are real, waits are a test's time.
    local limits=() autoscaling=()
    if [ "$PLAYED" -gt 0 ]; then
        limits=(--kube-api-qps=1000 --kube-api-burst=1000)
    else
        autoscaling=(--horizontal-pod-autoscaler-sync-period=5s --horizontal-pod-autoscaler-downscale-stabilization=15s)
    fi
    start "$KUBERNETES/kube-controller-manager" "${limits[@]}" "${autoscaling[@]}" --kubeconfig="$pki/controllers.kubeconfig" \
        --service-account-private-key-file="$pki/accounts.key" --root-ca-file="$pki/ca.crt" \
        --use-service-account-credentials --cluster-cidr=$POD_CIDR --allocate-node-cidrs=false --leader-elect=false
    start "$KUBERNETES/kube-scheduler" "${limits[@]}" --kubeconfig="$pki/scheduler.kubeconfig" --leader-elect=false
    until "$KUBERNETES/kubectl" --kubeconfig="$pki/admin.kubeconfig" get --raw /readyz >/dev/null 2>&1; do sleep .2; done
    if [ "$PLAYED" -gt 0 ]; then played; else real; fi
    wait
}

real() { # One node that runs pods.
    local group
    for group in /sys/fs/cgroup/*/; do
        [ ! -w "$group" ] || mkdir -p "$group$NAME" 2>/dev/null || true
    done
    start "$KUBERNETES/kubelet" --config=kubelet.yaml --kubeconfig="$pki/kubelet.kubeconfig" --hostname-override=node1 \
        --node-ip=$NODE_IP --root-dir="$STATE/kubelet"
    start "$KUBERNETES/kube-proxy" --kubeconfig="$pki/proxy.kubeconfig" --proxy-mode=iptables --cluster-cidr=$POD_CIDR \
        --hostname-override=node1 --conntrack-max-per-core=0
    start "$COREDNS/coredns" -conf Corefile
}

played() { # Nodes that only say that they run pods. Without leases they would be given up after 50 s.
    local number
    start "$KWOK/kwok" --kubeconfig="$pki/kwok.kubeconfig" --manage-all-nodes=true --cidr=$POD_CIDR \
        --node-lease-duration-seconds=40
    for ((number = 1; number <= PLAYED; number++)); do
        cat <<N
apiVersion: v1
kind: Node
metadata:
  name: node$number
  labels: {kubernetes.io/hostname: node$number, kubernetes.io/os: linux, kubernetes.io/arch: amd64}
status:
  capacity: {cpu: "1000", memory: 1Ti, pods: "1000"}
  allocatable: {cpu: "1000", memory: 1Ti, pods: "1000"}
---
N
    done | "$KUBERNETES/kubectl" --kubeconfig="$pki/admin.kubeconfig" create -f - >/dev/null
}

inside() {
    KUBECONFIG=$STATE/pki/admin.kubeconfig PATH=$STATE/bin:$PATH nsenter --net="/run/netns/$NAME" "$@"
}

possible() {
    [ "$(id -u)" = 0 ] || { echo "they need root; make e2e runs them on your own cluster by KUBECONFIG"; return 1; }
    command -v apt-get >/dev/null || { echo "they need a Debian, whose containerd and runc they use"; return 1; }
    unshare --net --mount --pid --fork true 2>/dev/null || { echo "they need namespaces, which this machine refuses"; return 1; }
    command -v go >/dev/null || { echo "they need Go 1.25 or later, to build Kubernetes: https://go.dev/dl"; return 1; }
}

ready() {
    inside kubectl get node node1 --request-timeout=2s 2>/dev/null | grep -qw Ready
}

up() {
    possible >&2 || die "there can be no cluster here"
    if [ -f "$STATE/pid" ]; then
        ready && return
        down
    fi
    mkdir -p "$STATE"
    packages
    local folders key groups=(kubernetes helm coredns)
    [ "$PLAYED" = 0 ] || groups=(kubernetes helm kwok)
    folders=$("$HERE/kubernetes/build.sh" "${groups[@]}")
    mapfile -t folders <<<"$folders"
    export KUBERNETES=${folders[0]} COREDNS=${folders[2]} KWOK=${folders[2]}
    mkdir -p "$STATE/bin"
    ln -sf "$KUBERNETES/kubectl" "${folders[1]}/helm" "$STATE/bin/"
    (certificates)
    configuration
    # The kubelet changes these for the whole machine; down puts them back.
    for key in vm.overcommit_memory kernel.panic kernel.panic_on_oops; do
        echo "$key=$(sysctl -n $key)"
    done >"$STATE/sysctl"
    ip netns add "$NAME"
    # Not `ip netns exec`, which mounts another /sys, where the kubelet finds no cgroups.
    setsid nsenter --net="/run/netns/$NAME" unshare --mount --pid --fork --kill-child --mount-proc \
        "$SELF" node >"$STATE/node.log" 2>&1 </dev/null &
    echo $! >"$STATE/pid"
    local try
    for ((try = 0; ; try++)); do
        ready && break
        kill -0 "$(cat "$STATE/pid")" 2>/dev/null || die "the node ended: $(tail -n 5 "$STATE/node.log")"
        [ $try -lt 200 ] || die "no node is ready after a minute; see $STATE/log"
        sleep .3
    done
    [ "$PLAYED" -gt 0 ] && return
    "$HERE/image.sh" pause "$STATE/pause.tar"
    import "$STATE/pause.tar"
}

import() {
    local file
    for file; do
        ctr --address "$STATE/containerd.sock" --namespace k8s.io images import "$file" >/dev/null
    done
}

down() {
    [ -d "$STATE" ] || return 0
    # unshare ignores TERM; after KILL, --kill-child ends everything inside.
    [ ! -f "$STATE/pid" ] || kill -KILL "$(cat "$STATE/pid")" 2>/dev/null || true
    local try
    for ((try = 0; try < 50; try++)); do
        ip netns pids "$NAME" 2>/dev/null | grep -q . || break
        sleep .1
    done
    ip netns delete "$NAME" 2>/dev/null || true
    [ ! -f "$STATE/sysctl" ] || sysctl -q -p "$STATE/sysctl" || true
    find /sys/fs/cgroup -depth -type d -path "/sys/fs/cgroup/*/$NAME*" -exec rmdir {} + 2>/dev/null || true
    rm -rf "$STATE"
}

case ${1:-} in
possible) possible ;;
up) up ;;
node) node ;;
exec) shift && inside "$@" ;;
import) shift && import "$@" ;;
logs) mkdir -p "$2" && cp -r "$STATE/log/." "$STATE/node.log" "$2" ;;
audit) echo "$STATE/log/audit.log" ;;
down) down ;;
*) die "usage: cluster.sh possible | up | exec CMD… | import FILE… | logs FOLDER | audit | down" ;;
esac
