"""One command a verb that does something useful: the end of its help. Verbs whose help tells more have none here."""

from __future__ import annotations

EXAMPLES = {
    "mv3d make": "mv3d make chair.png --out chair/ --format glb,stl",
    "mv3d lift": "mv3d lift chair.png --out chair/",
    "mv3d generate": "mv3d generate chair.png --views 21 --out chair/",
    "mv3d recon": "mv3d recon chair/ --format glb --quality draft",
    "mv3d view": "mv3d view chair/",
    "mv3d app": "mv3d app --port 8080",
    "mv3d page": "mv3d page chair/ --out chair.html",
    "mv3d clips split": "mv3d clips split holidays.mp4 --out clips/",
    "mv3d clips score": "mv3d clips score clips/",
    "mv3d clips select": "mv3d clips select clips/ --out selected/",
    "mv3d clips info": "mv3d clips info clips/",
    "mv3d eval run": "mv3d eval run objects/ --model default --out evaluation/",
    "mv3d eval views": "mv3d eval views generated/ truth/",
    "mv3d eval mesh": "mv3d eval mesh chair/mesh.glb truth.glb",
    "mv3d eval consistency": "mv3d eval consistency chair/",
    "mv3d models list": "mv3d models list --json",
    "mv3d models convert": "mv3d models convert sv3d_p.safetensors sv3d_p/",
    "mv3d models info": "mv3d models info default",
    "mv3d orbits select": "mv3d orbits select objects/ --licences cc0,by --out list.jsonl",
    "mv3d orbits fetch": "mv3d orbits fetch list.jsonl --out objects/",
    "mv3d orbits guard": "mv3d orbits guard evaluation_objects/ --out evaluation.json",
    "mv3d orbits procedural": "mv3d orbits procedural --count 100 --out objects/",
    "mv3d orbits paint": "mv3d orbits paint shapes/ --paints 2 --out painted/",
    "mv3d orbits render": "mv3d orbits render objects/ --out shards/ --views 21 --size 256",
    "mv3d orbits encode": "mv3d orbits encode shards/ --vae svd/vae --image-encoder svd/image_encoder",
    "mv3d orbits views": "mv3d orbits views chair.glb --out truth/",
    "mv3d orbits join": "mv3d orbits join first/ second/ --out both/",
    "mv3d orbits info": "mv3d orbits info shards/ --sheets sheets/",
}
