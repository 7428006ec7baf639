"""XMP packets in every form RDF has, in every encoding, judged by exiftool and expat."""

from __future__ import annotations

import base64
from xml.parsers import expat

import pytest

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Cleaned, TooMuchError
from policyfs.redact.core.patches import MemorySource, apply, in_order
from policyfs.redact.registry import locate_in
from policyfs.redact.xmp.packet import clean_xmp as clean_packet
from policyfs.redact.xmp.properties import speaks_of_place, tells
from tests.support.samples import jpegs
from tests.support.samples.inners import EACH, PLACES, Plain
from tests.support.samples.jpegs import TEXT_COORDINATES, leaks, with_segments, xmp_packet, xmp_segment
from tests.support.samples.media import HOME

EXIF_NS = "http://ns.adobe.com/exif/1.0/"
CITY = f"<photoshop:City>{HOME.city}</photoshop:City>"

FORMS = {
    "element": CITY,
    "own prefix": f'<q:GPSLatitude xmlns:q="{EXIF_NS}">{HOME.latitude}</q:GPSLatitude>',
    "default namespace": f'<GPSLatitude xmlns="{EXIF_NS}">{HOME.latitude}</GPSLatitude>',
    "namespace in entities": f'<q:GPSLatitude xmlns:q="{EXIF_NS.replace("x", "&#x78;")}">'
    f"{HOME.latitude}</q:GPSLatitude>",
    "wrong namespace": f'<exif:GPSLatitude xmlns:exif="http://purl.org/dc/elements/1.1/">'
    f"{HOME.latitude}</exif:GPSLatitude>",
    "undeclared prefix": f"<nowhere:thing>{HOME.city}</nowhere:thing>",
    "unknown namespace": f'<g:x xmlns:g="http://example.org/geo">{HOME.city}</g:x>',
    "no namespace": f"<City>{HOME.city}</City>",
    "value in entities": "<exif:GPSLatitude>"
    + "".join(f"&#{ord(c)};" for c in str(HOME.latitude))
    + "</exif:GPSLatitude>",
    "nested Description": "<Iptc4xmpExt:LocationCreated><rdf:Description>"
    f"<Iptc4xmpExt:City>{HOME.city}</Iptc4xmpExt:City></rdf:Description></Iptc4xmpExt:LocationCreated>",
    "parseType Resource": '<Iptc4xmpExt:LocationCreated rdf:parseType="Resource">'
    f"<Iptc4xmpExt:City>{HOME.city}</Iptc4xmpExt:City></Iptc4xmpExt:LocationCreated>",
    "sequence": "<Iptc4xmpExt:LocationShown><rdf:Seq><rdf:li>"
    f'<rdf:Description Iptc4xmpExt:City="{HOME.city}"/></rdf:li></rdf:Seq></Iptc4xmpExt:LocationShown>',
    "typed node": f'<dc:relation><exif:GPSInfo rdf:about="">{HOME.city}</exif:GPSInfo></dc:relation>',
    "field of a kept structure": '<dc:relation rdf:parseType="Resource">'
    f"<photoshop:State>{HOME.state}</photoshop:State></dc:relation>",
    "drone": f"<drone-dji:GpsLatitude>{HOME.latitude}</drone-dji:GpsLatitude>"
    f"<drone-dji:Note>{HOME.city}</drone-dji:Note>",
    "Darwin Core": f'<d:locality xmlns:d="http://rs.tdwg.org/dwc/terms/">{HOME.city}</d:locality>',
    "coverage": f"<dc:coverage>{HOME.city}</dc:coverage>",
    "video's place": f'<v:shotLocation xmlns:v="http://ns.adobe.com/xmp/1.0/DynamicMedia/">{HOME.city}'
    "</v:shotLocation>",
    "contact's address": '<Iptc4xmpCore:CreatorContactInfo rdf:parseType="Resource">'
    f"<Iptc4xmpCore:CiAdrCity>{HOME.city}</Iptc4xmpCore:CiAdrCity></Iptc4xmpCore:CreatorContactInfo>",
    "comment": f"<!-- {HOME.city} -->",
    "instruction": f"<?place {HOME.city}?>",
    "CDATA": f"<dc:source><![CDATA[<photoshop:City>{HOME.city}</photoshop:City>]]></dc:source>",
    "coordinates in a caption": f"<dc:source>taken at {TEXT_COORDINATES}</dc:source>",
    "caption in entities": f"<dc:source>{TEXT_COORDINATES.replace('.', '&#46;')}</dc:source>",
    "spaces and new lines": f"<photoshop:City\n>{HOME.city}</photoshop:City\t>",
    "apostrophes": f"<dc:relation rdf:resource='geo:{HOME.latitude},{HOME.longitude}'/>",
    "base64 of another image": '<g:Data xmlns:g="http://ns.google.com/photos/1.0/image/">'
    f"{HOME.city}</g:Data>",
}
ENCODINGS = ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]


def clean_xmp(packet: bytes) -> Cleaned:
    return clean_packet(packet, PLACES)


def clean(packet: bytes) -> bytes:
    out = clean_xmp(packet).data
    assert len(out) == len(packet)
    assert clean_xmp(out).data == out
    return out


def found(tmp_path, packet: bytes) -> dict[str, object]:
    path = tmp_path / "out.jpg"
    path.write_bytes(with_segments(jpegs.plain(), xmp_segment(packet)))
    (tags,) = jpegs.exiftool(path)
    return {name.rpartition(":")[2]: value for name, value in tags.items() if "XMP" in name}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("form", FORMS)
def test_places_go_and_the_rest_stays(form, encoding):
    packet = xmp_packet(FORMS[form], encoding=encoding)
    out = clean(packet)
    assert not leaks(out)
    text = out.decode(encoding)
    assert 'xmp:Rating="4"' in text
    assert "<dc:format>image/jpeg</dc:format>" in text
    expat.ParserCreate("utf-8").Parse(text.encode(), True)


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16"])
def test_byte_order_marks(mark):
    out = clean(xmp_packet(CITY).decode().encode(mark))
    assert not leaks(out)
    assert 'xmp:Rating="4"' in out.decode(mark)


def test_attributes_go_one_by_one(tmp_path):
    attributes = f'photoshop:City="{HOME.city}" photoshop:Credit="Rosa" exif:GPSLatitude=\'47,48.27N\''
    packet = xmp_packet("", attributes=attributes)
    out = clean(packet)
    assert not leaks(out)
    tags = found(tmp_path, out)
    assert tags["Credit"] == "Rosa"
    assert not tags.keys() & {"City", "GPSLatitude"}


def test_exiftool_reads_what_stays(tmp_path):
    tags = found(tmp_path, clean(xmp_packet("".join(FORMS.values()))))
    assert (tags["Rating"], tags["Format"]) == (4, "image/jpeg")
    assert not [name for name in tags if "GPS" in name or "City" in name or "Location" in name]


def test_attributes_count_as_parts_of_the_file():
    few, many = (
        xmp_packet("<dc:a " + " ".join(f"dc:b{n}=''" for n in range(count)) + "/>")
        for count in (1000, 50_000)
    )
    assert clean_xmp(few).data == few
    with pytest.raises(TooMuchError):
        clean_xmp(many)


def test_a_value_in_a_node_of_its_own_goes(tmp_path):
    """ExifTool reads the value of an element with nodeID from the node with this nodeID."""
    nodes = f'<rdf:Description rdf:nodeID="a"><rdf:value>{HOME.city}</rdf:value></rdf:Description></rdf:RDF>'
    packet = xmp_packet('<photoshop:City rdf:nodeID="a"/>').replace(b"</rdf:RDF>", nodes.encode())
    out = clean(packet)
    assert not leaks(out)
    assert found(tmp_path, out)["Rating"] == 4


def test_a_packet_without_places_is_left_alone():
    packet = xmp_packet("<dc:title>Quince</dc:title>") + bytes(7)
    cleaned = clean_xmp(packet)
    assert cleaned.data == packet
    assert not cleaned.notes


def test_notes_say_where():
    packet = xmp_packet(CITY)
    (note,) = clean_xmp(packet).notes
    assert packet[note.offset : note.offset + note.length] == CITY.encode()
    assert (note.container, note.tag) == ("XMP", "photoshop:City")


UNREADABLE = {
    "not closed": xmp_packet(CITY).replace(b"</rdf:RDF>", b""),
    "crossed": xmp_packet(f"<dc:a>{CITY}</dc:b>"),
    "two roots": xmp_packet("").replace(b"<?xpacket end", f"<a>{HOME.city}</a><?xpacket end".encode()),
    "text outside": xmp_packet("") + HOME.city.encode(),
    "DOCTYPE": f'<!DOCTYPE x [<!ENTITY c "{HOME.city}">]>'.encode() + xmp_packet("<dc:a>&c;</dc:a>"),
    "entity": xmp_packet("<dc:a>&nothing;</dc:a>" + CITY),
    "too many namespaces": xmp_packet(
        CITY + "<dc:a " + " ".join(f'xmlns:b{n}="x"' for n in range(300)) + "/>"
    ),
    "attribute twice": xmp_packet(CITY, attributes='dc:a="1" dc:a="2"'),
    "not UTF-8": xmp_packet(CITY).replace(b"image/jpeg", b"image/\xff\xfeg"),
    "declared as another encoding": b'<?xml version="1.0" encoding="utf-7"?>' + xmp_packet(CITY),
    "root that goes": f'<gpx xmlns="http://www.topografix.com/GPX/1/1">{HOME.city}</gpx>'.encode(),
    "too deep": xmp_packet("<dc:a>" * 100 + CITY + "</dc:a>" * 100),
    "cut in a character": xmp_packet(CITY, encoding="utf-16-le")[:-1],
    "place as a namespace": xmp_packet(f'<dc:a xmlns:z="geo:{HOME.latitude},{HOME.longitude}"/>' + CITY),
    "prefix xml": xmp_packet(f'<xml:City xmlns:xml="http://x">{HOME.city}</xml:City>'),
    "not XML": HOME.city.encode() * 30,
    "reference of many digits": xmp_packet(f"<dc:a>&#{'9' * 5000};</dc:a>{CITY}"),
    "tiny": b"<City>x",
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_cannot_be_understood_becomes_an_empty_packet(tmp_path, case):
    packet = UNREADABLE[case]
    out = clean(packet)
    assert not leaks(out)
    assert out.strip() in (b"", *(e for e in (out.strip(),) if e.startswith(b"<x:xmpmeta")))
    if out.strip():
        expat.ParserCreate().Parse(out.strip(), True)
    if len(packet) < 60000:
        assert "Rating" not in found(tmp_path, out)


@pytest.mark.parametrize(
    "name",
    ["GPSLatitude", "gpslatitude", "City", "CiAdrCtry", "Sublocation", "ProvinceState", "CountryCode",
     "WorldRegion", "LocationShown", "shotLocation", "coverage", "State", "AbsoluteAltitude", "Lat", "GeoTag",
     "LicensorStreetAddress", "place", "LegacyIPTCDigest", "NativeDigest"],
)  # fmt: skip
def test_names_that_speak_of_a_place(name):
    assert speaks_of_place(name)


@pytest.mark.parametrize(
    "name",
    ["Opacity", "SubjectLocation", "Latency", "Lateral", "Velocity", "Capacity", "Statement", "Geometry",
     "Placeholder", "Title", "subject", "ToneCurvePV2012", "PersonInImage", "RegionList", "UprightVersion"],
)  # fmt: skip
def test_names_that_do_not(name):
    assert not speaks_of_place(name)


@pytest.mark.parametrize(
    ("namespace", "name", "told"),
    [
        ("http://www.gimp.org/xmp/", "Version", Tells.DEVICE),
        ("http://www.gimp.org/xmp/", "TimeStamp", Tells.TIME),
        ("http://ns.apple.com/semanticSegmentationMatte/1.0/", "SemanticSegmentationMatteVersion", NOTHING),
        ("http://ns.apple.com/depthBlurEffect/1.0/", "RenderingParameters", UNKNOWN),
        ("http://ns.camerabits.com/photomechanic/1.0/", "ColorClass", Tells.OTHER),
        ("http://ns.camerabits.com/photomechanic/1.0/", "CountryCode", Tells.LOCATION),
        ("http://ns.acdsee.com/iptc/1.0/", "categories", UNKNOWN),
        ("http://ns.adobe.com/camera-raw-settings/1.0/", "RetouchAreaSourceState", Tells.OTHER),
    ],
)
def test_namespaces_of_programs(namespace, name, told):
    assert tells(namespace, name) == told


def test_no_kept_name_without_a_namespace_but_old_rdf():
    assert not tells(None, "about")
    assert tells(None, "title") == UNKNOWN


def test_what_would_be_read_in_another_encoding_afterwards_is_emptied():
    """Damaged beginnings: without what goes, the rest looks like UTF-8 to who reads it next."""
    packet = jpegs.xmp_packet("", attributes='exif:GPSLatitude="47,48.27N"', encoding="utf-16-be")
    for at in range(40):
        for value in (b"\x00", b"\xff", b"<"):
            broken = bytearray(packet)
            broken[at : at + 1] = value
            broken[9:10] = b"\x00"
            out = clean_xmp(bytes(broken)).data
            assert (len(out), clean_xmp(out).data) == (len(packet), out), (at, value)


# --- every word ---

TELLING = {
    "device": {
        'x:xmptk="Quill 9"': None,
        "<xmp:CreatorTool>Quillpaint</xmp:CreatorTool>": "Quillpaint",
        "<exif:ImageUniqueID>4711aa</exif:ImageUniqueID>": "4711aa",
        '<dc:identifier rdf:ID="n4711">x4712</dc:identifier>': "x4712",
        '<z:a xmlns:z="http://quillcam.example/">1</z:a>': "quillcam",
    },
    "time": {
        "<xmp:CreateDate>2019-03-04</xmp:CreateDate>": "2019-03-04",
        "<exif:DateTimeOriginal>2019-03-05</exif:DateTimeOriginal>": "2019-03-05",
        "<exif:GPSTimeStamp>2019-03-06</exif:GPSTimeStamp>": "2019-03-06",
        "<dc:source>saved 2019-03-07 11:12</dc:source>": "2019-03-07",
    },
    "people": {
        "<dc:creator><rdf:Seq><rdf:li>Rosa</rdf:li></rdf:Seq></dc:creator>": "Rosa",
        "<photoshop:Headline>Otto peels</photoshop:Headline>": "Otto",
        "<Iptc4xmpExt:PersonInImage>Hilde</Iptc4xmpExt:PersonInImage>": "Hilde",
        "<rdf:Description>stray Friederike</rdf:Description>": "Friederike",
    },
    "other": {"<exif:FNumber>28/10</exif:FNumber>": "28/10"},
    "location": {CITY: HOME.city},
}  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-be"])
@pytest.mark.parametrize("word", TELLING)
def test_each_word_takes_what_it_names(word, encoding):
    told = TELLING[word]
    packet = xmp_packet("".join(form for form in told if form.startswith("<")), encoding=encoding)
    out = clean_packet(packet, Plain(EACH[word])).data
    assert len(out) == len(packet)
    assert clean_packet(out, Plain(EACH[word])).data == out
    text = out.decode(encoding)
    assert not [fact for fact in told.values() if fact and fact in text]
    assert ('xmp:Rating="4"' in text) == (word != "other")
    expat.ParserCreate("utf-8").Parse(text.encode(), True)


@pytest.mark.parametrize("word", TELLING)
def test_other_words_leave_it(word):
    forms = {
        form: fact
        for other, told in TELLING.items()
        if other != word
        for form, fact in told.items()
        if fact and "2019-03-06" not in form and not form.startswith(("<z:", "<rdf:Desc", "<dc:source"))
    }
    text = clean_packet(xmp_packet("".join(forms)), Plain(EACH[word])).data.decode()
    assert not [form for form, fact in forms.items() if fact not in text]


def test_the_toolkit_names_a_program():
    packet = xmp_packet("").replace(b"<x:xmpmeta ", b'<x:xmpmeta x:xmptk="Quillkit 5" ')
    assert b"Quillkit" not in clean_packet(packet, Plain(EACH["device"])).data
    assert b"Quillkit" in clean_packet(packet, Plain(EACH["people"])).data


def test_where_a_motion_photos_video_starts_stays_under_every_word():
    camera = (
        '<g:MicroVideoOffset xmlns:g="http://ns.google.com/photos/1.0/camera/">4711</g:MicroVideoOffset>'
        '<c:Directory xmlns:c="http://ns.google.com/photos/1.0/container/"><rdf:Seq>'
        '<rdf:li rdf:parseType="Resource"><c:Item xmlns:i="http://ns.google.com/photos/1.0/container/item/"'
        ' i:Mime="video/mp4" i:Semantic="MotionPhoto" i:Length="4712"/></rdf:li></rdf:Seq></c:Directory>'
    )
    packet = xmp_packet(camera)
    cleaned = clean_packet(packet, Plain(UNKNOWN)).data
    assert camera.encode() in cleaned


def test_blobs_of_a_cameras_own_go_under_every_word():
    blob = '<g:hdrp_makernote xmlns:g="http://ns.google.com/photos/1.0/camera/">SERSUAJ</g:hdrp_makernote>'
    for hide in EACH.values():
        assert b"SERSUAJ" not in clean_packet(xmp_packet(blob), Plain(hide)).data


def test_more_text_than_can_be_looked_through():
    packet = xmp_packet(f"<dc:source>{'x ' * 100_000}</dc:source>" * 6)
    assert b"Rating" not in clean_packet(packet, PLACES).data


# --- pictures in properties ---


class Pictures(Plain):
    """Cleans pictures for real."""

    def image(self, data: bytes) -> Cleaned | None:
        if not data.startswith(b"\xff\xd8"):
            return None
        found = locate_in("image/jpeg", MemorySource(data), self.hide)
        return Cleaned(apply(data, in_order(found.patches, len(data))))


def broken_up(text: str, mark: str) -> str:
    return mark.join(text[at : at + 76] for at in range(0, len(text), 76))


PORTRAIT = jpegs.photo_with(jpegs.exif())
GOOGLE = "http://ns.google.com/photos/1.0/"


@pytest.mark.parametrize("mark", ["", "\n", "&#xA;", "\r\n "])
@pytest.mark.parametrize("padding", ["=", ""])
@pytest.mark.parametrize("form", ["element", "attribute"])
def test_a_picture_in_a_property_stays_and_its_place_goes(mark, padding, form):
    coded = base64.b64encode(PORTRAIT).decode()
    coded = broken_up(coded.rstrip("=") + padding * coded.count("="), mark)
    if form == "element":
        packet = xmp_packet(f'<g:Data xmlns:g="{GOOGLE}image/">{coded}</g:Data>')
    else:
        packet = xmp_packet("", attributes=f'xmlns:g="{GOOGLE}depthmap/" g:Data="{coded}"')
    out = clean_packet(packet, Pictures()).data
    assert len(out) == len(packet)
    assert clean_packet(out, Pictures()).data == out
    text = out.decode()
    inside = text[text.index("Data") :].split(">" if form == "element" else '"')[1].split("<")[0]
    picture = base64.b64decode(inside.replace("&#xA;", "").replace("\n", "") + "==")
    assert not leaks(picture)
    assert jpegs.pixels(picture) == jpegs.pixels(PORTRAIT)
    assert b"Testmaker" in picture
    assert coded not in clean_packet(packet, Pictures(UNKNOWN)).data.decode()


@pytest.mark.parametrize("coded", ["", HOME.city, "QUJD", "////", "aGVsbG9=", "/9j/4AAQSkZJRg" + "!" * 40])
def test_what_is_no_picture_goes_from_such_a_property(coded):
    packet = xmp_packet(f'<g:Data xmlns:g="{GOOGLE}image/">{coded}</g:Data>')
    out = clean_packet(packet, Pictures()).data.decode()
    assert out.count(coded or "nothing") == 0
    assert "Rating" in out


@pytest.mark.parametrize(
    "between",
    ["<!-- x -->", "<![CDATA[ ]]>", "<![CDATA[1]]>", "<?x y?>", "<dc:format/>", "<dc:city>x</dc:city>"],
)
def test_coordinates_do_not_hide_on_both_sides_of_something(between):
    packet = xmp_packet(f"<dc:source>47.80453,{between}13.04229</dc:source>")
    cleaned = clean_packet(packet, PLACES)
    assert b"13.04229" not in cleaned.data
    assert clean_packet(cleaned.data, PLACES) == Cleaned(cleaned.data)


def test_a_text_in_pieces_keeps_its_first():
    packet = xmp_packet("<dc:source>\n  quince <!-- x --> pear</dc:source>")
    assert b"quince" in clean_packet(packet, PLACES).data
    assert b"pear" not in clean_packet(packet, PLACES).data


# --- what says nothing of a place ---

TIFF_DIGEST = "256,257,258,274,306,270,271,272,305,315,33432;24B61B075FA9960B09291337508795BF"
EXIF_DIGEST = "36864,40960,37510,33434,41989,0,2,4,5,6,30;A50D672D77BFA6B1794A470713D72F1B"


@pytest.mark.parametrize(
    "shape", ['tiff:NativeDigest="{}"/>', "><tiff:NativeDigest>{}</tiff:NativeDigest></rdf:Description>"]
)
def test_a_digest_of_tags_without_places_stays(shape):
    def packet(digest: str) -> bytes:
        return (
            '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            '<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
            + shape.format(digest)
            + "</rdf:RDF></x:xmpmeta>"
        ).encode()

    assert clean_packet(packet(TIFF_DIGEST), PLACES).data == packet(TIFF_DIGEST)
    placed = (EXIF_DIGEST, TIFF_DIGEST.replace("256", "34853"), TIFF_DIGEST[-32:], TIFF_DIGEST + " in Linz")
    for told in placed:
        assert told[-32:].encode() not in clean_packet(packet(told), PLACES).data
    for word in ("device", "time", "people"):
        assert TIFF_DIGEST.encode() not in clean_packet(packet(TIFF_DIGEST), Plain(EACH[word])).data


NAMESPACES = {
    "DICOM": "http://ns.adobe.com/DICOM/",
    "pdfx": "http://ns.adobe.com/pdfx/1.3/",
    "pdf": "http://ns.adobe.com/pdf/1.3/",
    "pdfaid": "http://www.aiim.org/pdfa/ns/id/",
    "pdfuaid": "http://www.aiim.org/pdfua/ns/id/",
    "pdfe": "http://www.aiim.org/pdfe/ns/id/",
    "pdfaSchema": "http://www.aiim.org/pdfa/ns/schema#",
    "pdfaProperty": "http://www.aiim.org/pdfa/ns/property#",
    "adhocwf": "http://ns.adobe.com/AcrobatAdhocWorkflow/1.0/",
    "pdfxid": "http://www.npes.org/pdfx/ns/id/",
    "illustrator": "http://ns.adobe.com/illustrator/1.0/",
    "dcterms": "http://purl.org/dc/terms/",
    "drone-dji": "http://www.dji.com/drone-dji/1.0/",
    "Camera": "http://pix4d.com/camera/1.0/",
    "DLS": "http://micasense.com/DLS/1.0/",
    "MPReg": "http://ns.microsoft.com/photo/1.2/t/Region#",
}


def in_namespace(name: str, value: str, *, element: bool) -> bytes:
    prefix = name.partition(":")[0]
    attribute = "" if element else f'{name}="{value}"'
    inside = f"<{name}>{value}</{name}>" if element else ""
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" xmlns:{prefix}="{NAMESPACES[prefix]}" {attribute}>{inside}'
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


@pytest.mark.parametrize("element", [True, False])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DICOM:PatientSex", "O"),
        ("DICOM:SeriesModality", "MR"),
        ("pdfx:Company", "Kamera AG"),
        ("pdfx:Comments", "second draft"),
        ("pdfaid:part", "1"),
        ("pdfuaid:part", "1"),
        ("pdfe:ISO_PDFEVersion", "PDF/E-1"),
        ("pdfaSchema:namespaceURI", "http://ns.adobe.com/pdf/1.3/"),
        ("pdfaProperty:description", "A program"),
        ("pdfaProperty:name", "Trapped"),
        ("adhocwf:state", "1"),
        ("adhocwf:version", "1.1"),
        ("illustrator:Type", "Document"),
        ("dcterms:provenance", "estate of Rosa"),
        ("drone-dji:BandName", "NIR"),
        ("drone-dji:VignettingData", "0.000113, 0.0000021, 12.345678, 47.123456"),
        ("Camera:VignettingCenter", "62.630, 47.880"),
        ("Camera:Irradiance", "0.0123"),
        ("DLS:SpectralIrradiance", "0.91234"),
        ("MPReg:Rectangle", "0.3400, 0.2100, 0.1200, 0.0900"),
    ],
)
def test_properties_of_namespaces_that_say_nothing_of_a_place_stay(name, value, element):
    packet = in_namespace(name, value, element=element)
    assert clean_packet(packet, PLACES).data == packet


@pytest.mark.parametrize("element", [True, False])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DICOM:InstitutionAddress", "Zirbelweg 7"),
        ("DICOM:PatientSex", "47.80453, 13.04229"),
        ("DICOM:EquipmentInstitution", "Zirbelspital"),
        ("DICOM:InstitutionName", "Zirbelspital"),
        ("DICOM:StudyDescription", "Zirbelspital"),
        ("pdfx:Ort", "Zirbelstadt"),
        ("pdfx:Standort", "Zirbelstadt"),
        ("pdfx:Breite", "48.1374"),
        ("pdfx:x", "48.1374"),
        ("pdfaid:Ort", "Zirbelstadt"),
        ("pdfxid:Ort", "Zirbelstadt"),
        ("pdfuaid:Ort", "Zirbelstadt"),
        ("pdfaSchema:Ort", "Zirbelstadt"),
        ("pdfaProperty:description", "47.80453, 13.04229"),
        ("adhocwf:state", "Zirbelstadt"),
        ("adhocwf:version", "47.80453, 13.04229"),
        ("pdf:Ort", "Zirbelstadt"),
        ("illustrator:Ort", "Zirbelstadt"),
        ("pdfx:GeoCity", "Zirbelstadt"),
        ("pdfx:Company", "47.80453, 13.04229"),
        ("dcterms:spatial", "Zirbelstadt"),
        ("dcterms:isPartOf", "Zirbelstadt"),
        ("drone-dji:GpsLatitude", "47.80453"),
        ("drone-dji:FlightYawDegree", "+17.20"),
        ("drone-dji:BandName", "at 47.80453, 13.04229"),
        ("drone-dji:Unnamed", "Zirbelstadt"),
        ("DLS:SolarElevation", "0.7123"),
        # Each with the others gives the height of the sun.
        ("DLS:HorizontalIrradiance", "0.91235"),
        ("DLS:DirectIrradiance", "0.81236"),
        ("DLS:ScatteredIrradiance", "0.21237"),
        ("DLS:SpectralIrradiance", "47.80453, 13.04229"),
        ("MPReg:Rectangle", "47.80453, 13.04229, 0.1, 0.1"),
    ],
)
def test_the_same_namespaces_keep_no_place(name, value, element):
    packet = in_namespace(name, value, element=element)
    assert value.encode() not in clean_packet(packet, PLACES).data


@pytest.mark.parametrize("element", [True, False])
@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("DLS:TimeStamp", "1700000123", Tells.TIME),
        ("DLS:SensorId", "4711", Tells.DEVICE),
        ("DICOM:PatientName", "Rosa", Tells.PEOPLE),
        ("DICOM:StudyDateTime", "1999-07-03", Tells.TIME),
        ("DICOM:EquipmentManufacturer", "Kamera AG", Tells.DEVICE),
        ("pdfx:Manager", "Rosa", Tells.PEOPLE),
        ("pdfx:CreatorTool", "Schreiber", Tells.DEVICE),
        ("pdfx:SourceModified", "D:19990703", Tells.TIME),
    ],
)
def test_properties_of_such_namespaces_go_under_their_own_words(name, value, told, element):
    packet = in_namespace(name, value, element=element)
    assert value.encode() in clean_packet(packet, PLACES).data
    assert value.encode() not in clean_packet(packet, Plain(told)).data


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        ("3.522230, 0.818425, 0.090266, -0.380000, -0.170000, 0.000000, 0.500000", True),
        ("3.522230, 0.818425, at 47.80453, 13.04229", False),
    ],
)
def test_lists_of_numbers_for_colours_are_no_places(text, stays):
    """Lightroom writes a list for each colour that somebody picked."""
    uri = "http://ns.adobe.com/camera-raw-settings/1.0/"
    inside = f'<c:PointColors xmlns:c="{uri}"><rdf:Seq><rdf:li>{text}</rdf:li></rdf:Seq></c:PointColors>'
    data = xmp_packet(inside + "<dc:title>2.522230, 0.818425</dc:title>")
    out = clean_xmp(data).data
    assert (text.encode() in out) is stays
    assert b"2.522230, 0.818425" not in out


@pytest.mark.parametrize("word", EACH)
@pytest.mark.parametrize("ends", ["CR", "LF", "CRLF"])
def test_the_instruction_about_line_ends_stays_without_device(ends, word):
    """Acrobat and older Photoshop write it before the packet's root. No other instruction stays there."""
    data = xmp_packet("<dc:format>x</dc:format>").replace(
        b"<x:xmpmeta", b'<?adobe-xap-filters esc="%s"?><x:xmpmeta' % ends.encode(), 1
    )
    out = clean_packet(data, Plain(EACH[word])).data
    assert (b"xap-filters" in out) is (word not in ("device", "other"))
    spoiled = data.replace(b'"?><x:', b' Linz"?><x:')
    assert b"Linz" not in clean_packet(spoiled, PLACES).data
    inside = data.replace(b"<dc:", b'<?adobe-xap-filters esc="CR"?><dc:')
    assert clean_packet(inside, PLACES).data != inside


@pytest.mark.parametrize(
    "name", ["pdf:Subject", "photoshop:Caption", "xap:Description", "xapRights:Copyright"]
)
def test_comments_of_adobe_s_first_toolkits_stay_without_device(name):
    def packet(comment: str) -> bytes:
        return xmp_packet(f"<dc:format>x</dc:format><!-- {comment} -->")

    data = packet(f"{name} is aliased")
    assert clean_packet(data, PLACES).data == data
    assert b"aliased" not in clean_packet(data, Plain(EACH["device"])).data
    for spoiled in (
        f"{name} is aliased {HOME.city}",
        f"pdf:{HOME.city} is aliased",
        f"{HOME.city}:Title is aliased",
    ):
        assert HOME.city.encode() not in clean_packet(packet(spoiled), PLACES).data


@pytest.mark.parametrize("more", ["bytes='770'", 'encoding="UTF-16"', "bytes='2034' encoding='UTF-8'"])
def test_old_attributes_of_the_packet_stay(more):
    data = b"<?xpacket begin='' id='W5M0MpCehiHzreSzNTczkc9d' %s?>" % more.encode() + xmp_packet("")
    assert clean_packet(data, PLACES).data == data
    for place in (f"bytes='{HOME.latitude}'", f"encoding='{HOME.city}'"):
        spoiled = data.replace(more.encode(), place.encode())
        assert place.encode() not in clean_packet(spoiled, PLACES).data
