# What agentkernel asks of a Nomad cluster with ACLs, and no more:
#
#   nomad acl policy apply agentkernel agentkernel.policy.hcl
#   nomad acl token create -name agentkernel -policy agentkernel
#
# The token's secret goes into NOMAD_TOKEN. The namespace is that of NOMAD_NAMESPACE.
namespace "default" {
  capabilities = [
    # Registers a sandbox's job, and stops and purges it.
    "submit-job",
    # Waits for its allocation.
    "read-job",
    # Finds what a machine that was lost has left (agentkernel prune).
    "list-jobs",
    # The stream to the agent in it.
    "alloc-exec",
  ]
}

# Which datacenters there are, and how fast their processors, for --cpus.
node {
  policy = "read"
}
