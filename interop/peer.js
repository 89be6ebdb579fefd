// A member of the DHT made of js-libp2p, an implementation of Kademlia that shares no code with ours.
//
//   peer.js serve LISTEN BOOTSTRAP...          routes and answers until it is killed
//   peer.js put KEY VALUE BOOTSTRAP...         stores a record on the nodes closest to its key
//   peer.js put-own BOOTSTRAP...               the same with a record of its own kinds: its public key
//   peer.js get KEY BOOTSTRAP...               looks a record up
//   peer.js find PEER BOOTSTRAP...             looks a node up
//
// Keys and values are hexadecimal, addresses are multiaddresses. It tells what it sees in lines of JSON.
import { publicKeyToProtobuf } from '@libp2p/crypto/keys'
import { identify } from '@libp2p/identify'
import { kadDHT, MessageType } from '@libp2p/kad-dht'
import { peerIdFromString } from '@libp2p/peer-id'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

// Where it is used: the protocol of our DHT, and how long a whole query may take. (Our nodes refuse by silence, which
// each request waits for by itself.)
const PROTOCOL = '/handfast/kad/1'
const QUERY_LIMIT = 30_000
const LOOK_AGAIN = 200

const say = (line) => process.stdout.write(JSON.stringify(line) + '\n')
const hex = (bytes) => Buffer.from(bytes).toString('hex')
const bytes = (text) => new Uint8Array(Buffer.from(text, 'hex'))

async function join (listen, bootstrap) {
  const peer = await createLibp2p({
    // What it only listens on it tells nobody before others have called it there.
    addresses: { listen, announce: listen },
    transports: [tcp()],
    connectionEncrypters: [tls()],
    streamMuxers: [yamux()],
    services: {
      identify: identify(),
      ping: ping(),
      dht: kadDHT({ protocol: PROTOCOL, clientMode: listen.length === 0 })
    }
  })
  for (const address of bootstrap) {
    await peer.dial(multiaddr(address))
  }
  while (peer.services.dht.routingTable.size < bootstrap.length) {
    await pause()
  }
  return peer
}

async function serve (listen, ...bootstrap) {
  const peer = await join([listen], bootstrap)
  say({ event: 'serving', id: peer.peerId.toString(), addresses: peer.getMultiaddrs().map(String) })
}

async function put (peer, key, value) {
  const [stored, failed] = [new Set(), new Map()]
  for await (const event of peer.services.dht.put(key, value, limit())) {
    if (event.name === 'PEER_RESPONSE' && event.messageName === 'PUT_VALUE') {
      stored.add(event.from.toString())
    } else if (event.name === 'QUERY_ERROR') {
      failed.set(event.from.toString(), event.error.name)
    }
  }
  for (const id of failed.keys()) {
    stored.delete(id)
  }
  say({ event: 'put', stored: [...stored], failed: Object.fromEntries(failed) })
}

// Its own `get` believes only records of its own kinds, so the nodes are asked one by one.
async function get (peer, key) {
  const dht = peer.services.dht
  const values = new Set()
  for await (const { name, peer: node } of dht.getClosestPeers(key, limit())) {
    if (name !== 'FINAL_PEER') {
      continue
    }
    for await (const event of dht.network.sendRequest(node.id, { type: MessageType.GET_VALUE, key }, limit())) {
      if (event.name === 'PEER_RESPONSE' && event.record != null) {
        values.add(hex(event.record.value))
      }
    }
  }
  return values.size > 0 && { event: 'got', values: [...values] }
}

async function find (peer, id) {
  try {
    for await (const event of peer.services.dht.findPeer(peerIdFromString(id), limit())) {
      if (event.name === 'FINAL_PEER' && event.peer.id.toString() === id) {
        return { event: 'found', addresses: event.peer.multiaddrs.map(String) }
      }
    }
  } catch (error) {
    if (error.name !== 'NotFoundError') {
      throw error
    }
  }
}

// Just after it has come it knows few nodes, and finds little by them: it looks until it has found something.
async function until (look) {
  for (const end = Date.now() + QUERY_LIMIT; Date.now() < end; await pause()) {
    const found = await look()
    if (found) {
      return say(found)
    }
  }
  say({ event: 'not_found' })
}

const pause = () => new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN))
const limit = () => ({ signal: AbortSignal.timeout(QUERY_LIMIT) })

async function once (bootstrap, query) {
  const peer = await join([], bootstrap)
  await query(peer)
  await peer.stop()
}

const [command, ...args] = process.argv.slice(2)
switch (command) {
  case 'serve':
    await serve(...args)
    break
  case 'put': {
    const [key, value, ...bootstrap] = args
    await once(bootstrap, (peer) => put(peer, bytes(key), bytes(value)))
    break
  }
  case 'put-own':
    await once(args, (peer) => {
      const key = new Uint8Array([...Buffer.from('/pk/'), ...peer.peerId.toMultihash().bytes])
      return put(peer, key, publicKeyToProtobuf(peer.peerId.publicKey))
    })
    break
  case 'get': {
    const [key, ...bootstrap] = args
    await once(bootstrap, (peer) => until(() => get(peer, bytes(key))))
    break
  }
  case 'find': {
    const [id, ...bootstrap] = args
    await once(bootstrap, (peer) => until(() => find(peer, id)))
    break
  }
  default:
    throw new Error(`no such command: ${command}`)
}
