Every *.yaml, *.yml and *.json file in this folder is input of sluice.service: Gateway API objects, as in Kubernetes.
The folder is watched. `sluice check -f /etc/sluice/conf.d` says what it would come to, `sluice status` what came of it.
Examples: /usr/share/doc/sluice/examples
