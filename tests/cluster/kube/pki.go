package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// A cluster of a test does not live for a year.
const validity = 365 * 24 * time.Hour

// An authority, or whoever has a certificate of one.
type identity struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
}

// A certificate to be made: the file, who it is for, and the names by which it serves, if it does.
type request struct {
	file    string
	subject pkix.Name
	serves  []string
}

// makePKI writes the keys and certificates of a cluster of one node, and a kubeconfig for everyone who talks to its API
// server, into a directory: two authorities (of the cluster, and of the front proxy of aggregated APIs), a key pair for
// service account tokens, and NAME.crt, NAME.key, NAME.kubeconfig.
func makePKI() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: kube-pki DIRECTORY NODE-NAME NODE-ADDRESS API-SERVICE-ADDRESS")
		os.Exit(2)
	}
	if err := writePKI(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, "kube-pki:", err)
		os.Exit(1)
	}
}

func writePKI(directory, node, address, service string) error {
	authority, err := newAuthority(directory, "ca")
	if err != nil {
		return err
	}
	// The names are those that Kubernetes itself gives its parts: its default roles are bound to them.
	parts := []request{
		{"kube-apiserver", pkix.Name{CommonName: "kube-apiserver"}, []string{
			"localhost", node, "kubernetes", "kubernetes.default", "kubernetes.default.svc",
			"kubernetes.default.svc.cluster.local", "127.0.0.1", address, service}},
		{"kubelet-serving", ofNode(node), []string{node, address}},
		{"apiserver-kubelet-client", ofMasters("kube-apiserver-kubelet-client"), nil},
		{"kubelet", ofNode(node), nil},
		{"kube-controller-manager", pkix.Name{CommonName: "system:kube-controller-manager"}, nil},
		{"kube-scheduler", pkix.Name{CommonName: "system:kube-scheduler"}, nil},
		{"kube-proxy", pkix.Name{CommonName: "system:kube-proxy"}, nil},
		{"admin", ofMasters("admin"), nil},
	}
	for _, part := range parts {
		if err := authority.issue(directory, part); err != nil {
			return err
		}
	}
	front, err := newAuthority(directory, "front-proxy-ca")
	if err != nil {
		return err
	}
	if err := front.issue(directory, request{"front-proxy-client", pkix.Name{CommonName: "front-proxy-client"}, nil}); err != nil {
		return err
	}
	if err := writeTokenKeys(directory); err != nil {
		return err
	}
	server := "https://" + net.JoinHostPort(address, "6443")
	for _, user := range []string{"admin", "kubelet", "kube-controller-manager", "kube-scheduler", "kube-proxy"} {
		if err := writeKubeconfig(directory, user, server); err != nil {
			return err
		}
	}
	return nil
}

func ofNode(name string) pkix.Name {
	return pkix.Name{CommonName: "system:node:" + name, Organization: []string{"system:nodes"}}
}

func ofMasters(name string) pkix.Name {
	return pkix.Name{CommonName: name, Organization: []string{"system:masters"}}
}

func newAuthority(directory, name string) (*identity, error) {
	template := certificate(pkix.Name{CommonName: name})
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	own := &identity{key, template}
	own.certificate, err = own.sign(directory, name, template, key)
	return own, err
}

func (authority *identity) issue(directory string, wanted request) error {
	template := certificate(wanted.subject)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if wanted.serves != nil {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	for _, name := range wanted.serves {
		if address := net.ParseIP(name); address != nil {
			template.IPAddresses = append(template.IPAddresses, address)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	_, err = authority.sign(directory, wanted.file, template, key)
	return err
}

func certificate(subject pkix.Name) *x509.Certificate {
	now := time.Now()
	// The clock of whoever checks it may be a little behind.
	return &x509.Certificate{Subject: subject, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(validity)}
}

// sign writes NAME.crt and NAME.key.
func (authority *identity) sign(directory, name string, template *x509.Certificate, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	signed, err := x509.CreateCertificate(rand.Reader, template, authority.certificate, key.Public(), authority.key)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", name, err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := writePEM(directory, name+".crt", "CERTIFICATE", signed); err != nil {
		return nil, err
	}
	if err := writePEM(directory, name+".key", "EC PRIVATE KEY", secret); err != nil {
		return nil, err
	}
	return x509.ParseCertificate(signed)
}

func writeTokenKeys(directory string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := writePEM(directory, "service-accounts.key", "EC PRIVATE KEY", secret); err != nil {
		return err
	}
	return writePEM(directory, "service-accounts.pub", "PUBLIC KEY", public)
}

func writePEM(directory, file, kind string, bytes []byte) error {
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes})
	return os.WriteFile(filepath.Join(directory, file), text, 0o600)
}

// writeKubeconfig needs no file beside the one that it writes: the certificates are in it.
func writeKubeconfig(directory, user, server string) error {
	read := func(file string) ([]byte, error) { return os.ReadFile(filepath.Join(directory, file)) }
	authority, err := read("ca.crt")
	if err != nil {
		return err
	}
	certificate, err := read(user + ".crt")
	if err != nil {
		return err
	}
	key, err := read(user + ".key")
	if err != nil {
		return err
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["observer"] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: authority}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificateData: certificate, ClientKeyData: key}
	config.Contexts["observer"] = &clientcmdapi.Context{Cluster: "observer", AuthInfo: user}
	config.CurrentContext = "observer"
	return clientcmd.WriteToFile(*config, filepath.Join(directory, user+".kubeconfig"))
}
