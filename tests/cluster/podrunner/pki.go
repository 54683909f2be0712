package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	api "k8s.io/client-go/tools/clientcmd/api"
)

// cmdPKI writes throw-away keys and certificates for one cluster, and a kubeconfig of its administrator.
func cmdPKI(args []string) error {
	fs := flag.NewFlagSet("pki", flag.ExitOnError)
	dir := fs.String("dir", "", "output directory")
	server := fs.String("server", "", "API server URL for the kubeconfig")
	kubeconfig := fs.String("kubeconfig", "", "kubeconfig to write")
	sans := fs.String("sans", "", "comma-separated addresses and names of the API server and kubelet")
	_ = fs.Parse(args)
	if err := os.MkdirAll(*dir, 0o700); err != nil {
		return err
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "cluster-ca"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return err
	}
	caPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})
	write := func(name string, b []byte) error { return os.WriteFile(filepath.Join(*dir, name), b, 0o600) }
	if err := write("ca.crt", caPEM); err != nil {
		return err
	}
	keyPEM := func(k crypto.PrivateKey) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			panic(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	}
	serial := int64(1)
	issue := func(name, cn string, orgs []string, server bool) (crt, key []byte, err error) {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, nil, err
		}
		serial++
		t := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: cn, Organization: orgs},
			NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}
		if server {
			t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
			for _, s := range strings.Split(*sans, ",") {
				if a := net.ParseIP(s); a != nil {
					t.IPAddresses = append(t.IPAddresses, a)
				} else if s != "" {
					t.DNSNames = append(t.DNSNames, s)
				}
			}
		}
		der, err := x509.CreateCertificate(rand.Reader, t, ca, k.Public(), caKey)
		if err != nil {
			return nil, nil, err
		}
		crt, key = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), keyPEM(k)
		if err := write(name+".crt", crt); err != nil {
			return nil, nil, err
		}
		return crt, key, write(name+".key", key)
	}
	if _, _, err := issue("apiserver", "kube-apiserver", nil, true); err != nil {
		return err
	}
	if _, _, err := issue("kubelet", "kubelet", nil, true); err != nil {
		return err
	}
	if _, _, err := issue("kubelet-client", "apiserver-kubelet-client", nil, false); err != nil {
		return err
	}
	crt, key, err := issue("admin", "admin", []string{"system:masters"}, false)
	if err != nil {
		return err
	}
	sa, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	if err := write("sa.key", keyPEM(sa)); err != nil {
		return err
	}
	pub, err := x509.MarshalPKIXPublicKey(sa.Public())
	if err != nil {
		return err
	}
	if err := write("sa.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pub})); err != nil {
		return err
	}
	kc := api.NewConfig()
	kc.Clusters["cluster"] = &api.Cluster{Server: *server, CertificateAuthorityData: caPEM}
	kc.AuthInfos["cluster"] = &api.AuthInfo{ClientCertificateData: crt, ClientKeyData: key}
	kc.Contexts["cluster"] = &api.Context{Cluster: "cluster", AuthInfo: "cluster"}
	kc.CurrentContext = "cluster"
	return clientcmd.WriteToFile(*kc, *kubeconfig)
}
