# What the programs of cluster.sh's clusters are told: certificates, credentials and settings.

# A certificate that the cluster's authority signs; the first word is its name, the second its subject, and
# further ones are its extension.
certificate() {
    local name=$dir/pki/$1
    openssl req -newkey rsa:2048 -nodes -keyout "$name.key" -out "$name.csr" -subj "$2"
    openssl x509 -req -in "$name.csr" -CA "$dir/pki/ca.crt" -CAkey "$dir/pki/ca.key" -CAcreateserial \
        -days 30 -out "$name.crt" -extfile <(echo "${3:-}")
} 2>/dev/null

make_certificates() {
    local who i=0 token
    openssl genrsa -out "$dir/pki/accounts.key" 2048 2>/dev/null
    openssl rsa -in "$dir/pki/accounts.key" -pubout -out "$dir/pki/accounts.pub" 2>/dev/null
    openssl req -x509 -newkey rsa:2048 -nodes -keyout "$dir/pki/ca.key" -out "$dir/pki/ca.crt" -days 30 \
        -subj /CN=agentkernel-lane 2>/dev/null
    certificate api /CN=kube-apiserver "subjectAltName=IP:$node,IP:$service,IP:127.0.0.1"
    certificate to-kubelet /O=system:masters/CN=to-kubelet
    : >"$dir/pki/tokens.csv"
    for who in 'admin,"system:masters"' 'system:node:node,"system:nodes"' system:kube-controller-manager \
        system:kube-scheduler; do
        token=$(openssl rand -hex 16)
        i=$((i + 1))
        # Token, name, number and groups.
        sed "s/^\([^,]*\)/$token,\1,$i/" <<<"$who" >>"$dir/pki/tokens.csv"
        credentials "$token" >"$dir/$(sed 's/,.*//; s/.*://' <<<"$who").kubeconfig"
    done
    chmod 600 "$dir"/pki/* "$dir"/*.kubeconfig
    chmod 644 "$dir/pki/ca.crt"
    chown ":$ordinary" "$KUBECONFIG"
    chmod 640 "$KUBECONFIG"
}

# A kubeconfig for whoever has a token.
credentials() {
    cat <<-END
	apiVersion: v1
	kind: Config
	clusters: [{name: lane, cluster: {server: "https://$node", certificate-authority: $dir/pki/ca.crt}}]
	users: [{name: user, user: {token: "$1"}}]
	contexts: [{name: lane, context: {cluster: lane, user: user}}]
	current-context: lane
	END
}

write_settings() {
    cat >"$dir/containerd.toml" <<-END
	version = 2
	root = "$dir/containerd/root"
	state = "$dir/containerd/state"
	[grpc]
	  address = "$dir/containerd.sock"
	[plugins."io.containerd.internal.v1.opt"]
	  path = "$dir/containerd/opt"
	[plugins."io.containerd.grpc.v1.cri"]
	  sandbox_image = "localhost/agentkernel-pause:latest"
	  # Root may lack the right to lower it.
	  restrict_oom_score_adj = true
	  [plugins."io.containerd.grpc.v1.cri".cni]
	    bin_dir = "/usr/lib/cni"
	    conf_dir = "$dir/net.d"
	END
    cat >"$dir/net.d/bridge.conflist" <<-END
	{"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "pods",
	 "isGateway": true, "ipMasq": true, "hairpinMode": true, "ipam": {"type": "host-local",
	 "ranges": [[{"subnet": "10.244.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
	END
    cat >"$dir/kubelet.yaml" <<-END
	apiVersion: kubelet.config.k8s.io/v1beta1
	kind: KubeletConfiguration
	address: $node
	authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {clientCAFile: $dir/pki/ca.crt}}
	authorization: {mode: AlwaysAllow}
	cgroupDriver: cgroupfs
	cgroupRoot: /$group
	failSwapOn: false
	makeIPTablesUtilChains: false
	hairpinMode: none
	oomScoreAdj: 0
	resolvConf: ""
	nodeStatusUpdateFrequency: 1s
	# As many events a second as nodes of today tell, where this one's age would tell a tenth.
	eventRecordQPS: 50
	eventBurst: 100
	clusterDNS: [$service]
	# A node has no images but those that it was given: none is removed, however full the disk is.
	imageGCHighThresholdPercent: 100
	imageGCLowThresholdPercent: 99
	evictionHard: {memory.available: "50Mi", nodefs.available: "1%", imagefs.available: "1%", nodefs.inodesFree: "1%"}
	volumePluginDir: $dir/plugins
	# As in all clusters since 1.22: without it a folder in memory takes half of the node's.
	featureGates: {SizeMemoryBackedVolumes: true}
	END
}
