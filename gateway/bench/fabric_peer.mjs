// The official client (@hyperledger/fabric-gateway) doing what the product's client does, for `manage.py bench fabric`.
// Started with one JSON argument: {address, channel, chaincode, org, certificate, key, tlsRoots} (files). Then each
// line on stdin is one turn {kind, atOnce, seconds, inputs (a file of [name, args, openings] lines)}; its figures come on stdout.
import * as grpc from '@grpc/grpc-js';
import { connect, hash, signers } from '@hyperledger/fabric-gateway';
import { createPrivateKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

const settings = JSON.parse(process.argv[2]);
const deadline = (seconds) => () => ({ deadline: Date.now() + seconds * 1000 });
const client = new grpc.Client(
  settings.address, grpc.credentials.createSsl(readFileSync(settings.tlsRoots)));
const gateway = connect({
  client,
  hash: hash.sha256,
  identity: { mspId: settings.org, credentials: readFileSync(settings.certificate) },
  signer: signers.newPrivateKeySigner(createPrivateKey(readFileSync(settings.key))),
  endorseOptions: deadline(15), submitOptions: deadline(5), evaluateOptions: deadline(5),
  commitStatusOptions: deadline(30),
});
const contract = gateway.getNetwork(settings.channel).getContract(settings.chaincode);

async function grant([name, args, openings]) {
  const sent = await contract.submitAsync(name, {
    arguments: [args], transientData: { openings },
  });
  const status = await sent.getStatus();
  if (!status.successful) throw new Error(`code ${status.code}`);
}

const READ = '{"keys":["organisations"],"nonce":""}';
const evaluate = () => contract.evaluate('Read', {
  arguments: [READ], endorsingOrganizations: [settings.org],
});

async function turn({ kind, atOnce, seconds, inputs }) {
  const waiting = kind !== 'evaluate'
    ? readFileSync(inputs, 'utf8').trim().split('\n').map((line) => JSON.parse(line)) : null;
  const times = [];
  let failed = 0;
  const before = process.cpuUsage();
  const began = performance.now();
  const work = async () => {
    while (performance.now() - began < seconds * 1000) {
      const input = waiting?.pop();
      if (waiting && input === undefined) return;
      const start = performance.now();
      try {
        await (waiting ? grant(input) : evaluate());
        times.push((performance.now() - start) / 1000);
      } catch {
        failed += 1;
      }
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  const took = (performance.now() - began) / 1000;
  const used = process.cpuUsage(before);
  return { times, failed, took, cpu: (used.user + used.system) / 1e6 };
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await turn(JSON.parse(line))));
}
gateway.close();
client.close();
